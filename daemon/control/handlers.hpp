// The handlers of single requests, and what they share. Internal to control/.
//
// A handler gets a request of its own kind, from a peer that satisfies what requests.cpp's table
// says the kind needs, and the pool that it is about. It denies by an answer, and hangs up on what
// makes no sense.
#pragma once

#include <memory>
#include <string>
#include <system_error>

#include "daemon/control/requests.hpp"

namespace mempoold {

using PoolPtr = std::shared_ptr<ServedPool>;

/// The answer that denies with `error` (an errno) and says why and what to do.
Answer deny(int error, const std::string& text);
/// As deny(), with what `e` says.
Answer deny(const std::system_error& e);
/// The answer that closes the connection: `fault` is what the peer sent.
Answer hang_up(std::string fault);
/// A reply with that payload.
template <typename Payload>
Answer reply_with(const Payload& payload) {
    Answer answer;
    mempool::shm::payload::put(answer.reply, payload);
    return answer;
}

/// The pool that the request names; else `answer` says why there is none.
PoolPtr find_pool(const Service& service, const mempool::shm::Request& request, Answer& answer);
Answer deny_pool(const Conversation& c, const ServedPool& pool);

// client_requests.cpp
Answer attach(Service& service, Conversation& c, const PoolPtr& pool,
              const mempool::shm::Request& request);
Answer resume(Service& service, Conversation& c, const PoolPtr& pool,
              const mempool::shm::Request& request);
Answer segment(Service& service, Conversation& c, const PoolPtr& pool,
               const mempool::shm::Request& request);
Answer want_more(Service& service, Conversation& c, const PoolPtr& pool,
                 const mempool::shm::Request& request);
Answer bye(Service& service, Conversation& c, const PoolPtr& pool,
           const mempool::shm::Request& request);
// admin_requests.cpp
Answer grow(Service& service, Conversation& c, const PoolPtr& pool,
            const mempool::shm::Request& request);
Answer reclaim(Service& service, Conversation& c, const PoolPtr& pool,
               const mempool::shm::Request& request);
Answer repair(Service& service, Conversation& c, const PoolPtr& pool,
              const mempool::shm::Request& request);
Answer end_client(Service& service, Conversation& c, const PoolPtr& pool,
                  const mempool::shm::Request& request);
// read_requests.cpp
Answer status(Service& service, Conversation& c, const PoolPtr& pool,
              const mempool::shm::Request& request);
Answer list(Service& service, Conversation& c, const PoolPtr& pool,
            const mempool::shm::Request& request);
Answer inspect(Service& service, Conversation& c, const PoolPtr& pool,
               const mempool::shm::Request& request);
Answer read(Service& service, Conversation& c, const PoolPtr& pool,
            const mempool::shm::Request& request);

}  // namespace mempoold
