// What each request on the control socket does, and who may ask for it.
//
// Called by a session for every message that came whole. Sends nothing: it says what to answer. All
// that comes in is foreign bytes; the worst a peer can do is to be shown the door.
#pragma once

#include <cstdint>
#include <limits>
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

/// How many descriptors there may be. The kernel gives out the lowest number that is free, so the
/// number of a new one tells how many are open.
struct DescriptorBudget {
    int most = 0;   ///< RLIMIT_NOFILE
    int pools = 0;  ///< of these, what the pools have and may come to need
    /// Higher numbers are for the daemon's own work and for operators.
    int for_clients = std::numeric_limits<int>::max();

    /// Why there is none for one client more, and what to do.
    [[nodiscard]] std::string explain() const;
};

/// What the sessions work on. Owned by Daemon.
struct Service {
    explicit Service(boost::asio::io_context& io) : supervisor(io) {}

    std::map<std::string, std::shared_ptr<ServedPool>, std::less<>> pools;
    Supervisor supervisor;
    std::optional<gid_t> admin_group;
    std::uint32_t max_connections_per_user = 0;  ///< 0: a quarter of all
    std::uint64_t started_at = 0;                ///< seconds since the epoch
    LogRate complaints;                          ///< about peers
    DescriptorBudget budget;
};

/// Where one connection stands.
struct Conversation {
    int socket = -1;
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
