// The requests of those who only look: kInspect and kRead.
//
// Called by handle_request(). Gives out bytes of a pool's metadata and never a descriptor: a
// mapping that only reads still sleeps on the pool's futex and reads what is in the slots.
#pragma once

#include <memory>

#include "daemon/control/requests.hpp"

namespace mempoold {

/// kInspect: from now on this connection reads `pool`.
Answer inspect(const Service& service, Conversation& c, const std::shared_ptr<ServedPool>& pool);

/// kRead: bytes of the metadata of the pool that the connection inspects.
Answer read(const Service& service, const Conversation& c, const mempool::shm::Request& request);

}  // namespace mempoold
