// What each request on the control socket does, and who may ask for it.
//
// Called by a session for every message that came whole. Sends nothing: it says what to answer. All
// that comes in is foreign bytes; the worst a peer can do is to be shown the door.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "daemon/base/log.hpp"
#include "daemon/control/peer.hpp"
#include "daemon/supervision/served_pool.hpp"
#include "daemon/supervision/supervisor.hpp"
#include "mempool/shm/wire.hpp"

namespace mempoold {

/// What the sessions work on. Owned by Daemon.
struct Service {
    Service(boost::asio::io_context& io, Worker& its_worker) : worker(its_worker), supervisor(io) {}

    Worker& worker;

    std::map<std::string, std::shared_ptr<ServedPool>, std::less<>> pools;
    Supervisor supervisor;
    std::optional<gid_t> admin_group;
    std::uint32_t max_connections_per_user = 0;  ///< 0: a quarter of all
    std::uint64_t started_at = 0;                ///< seconds since the epoch
    LogRate complaints;                          ///< about peers
};

struct Answer;

/// Where one connection stands.
struct Conversation {
    int socket = -1;
    /// Answers a request that was left unanswered (Answer::kLater), if the connection still is
    /// there; nothing else is read from it before. May be called at any time, also after its end.
    std::function<void(const Answer&)> answer_later;
    Peer peer;
    std::uint64_t accepted_ticks = 0;    ///< see peer_pidfd()
    std::shared_ptr<ServedPool> pool;    ///< attached to or inspected
    std::shared_ptr<Attachment> client;  ///< empty: inspecting
};

/// What to do about a request.
struct Answer {
    enum class Action : std::uint8_t {
        kReply,
        kNothing,  ///< it was one-way
        kLater,    ///< Conversation::answer_later is called when it is done
        kRefuse,   ///< it makes no sense here: close, with `fault` logged
        kGoodbye,  ///< the client is done: close
    };
    Action action = Action::kReply;
    mempool::shm::Reply reply;
    int passed_fd = -1;  ///< stays the pool's
    std::string fault;
};

/// Carries out `request`, whose magic and version were checked.
Answer handle_request(Service& service, Conversation& conversation,
                      const mempool::shm::Request& request);

/// The reply that refuses with `error` and says why.
mempool::shm::Reply refusal_reply(int error, const std::string& text);

/// The reply to a request of another wire version.
mempool::shm::Reply version_mismatch(std::uint16_t theirs);

}  // namespace mempoold
