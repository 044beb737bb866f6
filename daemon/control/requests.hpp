// What each request on the control socket does, and who may ask for it.
//
// Called by a session for every message that came whole. Sends nothing: it says what to answer. All
// that comes in is foreign bytes; the worst a peer can do is to lose its connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/log.hpp"
#include "daemon/base/worker.hpp"
#include "daemon/control/peer.hpp"
#include "daemon/storage/fd_store.hpp"
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

/// How much of the loop each user gets for requests of connections that are not attached: so many a
/// second, whatever the number of its connections. Root and the daemon's own user are not counted.
class RequestBudget {
public:
    using Clock = std::chrono::steady_clock;
    /// Whether `uid` may have one more request carried out now.
    bool allow(uid_t uid, Clock::time_point now);

private:
    static constexpr double kPerSecond = 2000;
    static constexpr double kMost = 500;  // at once
    struct Left {
        double requests = kMost;
        Clock::time_point since{};
    };
    std::map<uid_t, Left> left_;
};

/// What the sessions work on. Owned by Daemon.
struct Service {
    /// The others outlive it.
    Service(boost::asio::io_context& io, Worker& worker, FdStore& store)
        : supervisor(io, worker, store) {}

    std::map<std::string, std::shared_ptr<ServedPool>, std::less<>> pools;
    Supervisor supervisor;
    std::optional<gid_t> admin_group;
    std::uint32_t max_connections_per_user = 0;  ///< 0: a quarter of all
    std::uint64_t started_at = 0;                ///< seconds since the epoch
    LogRate complaints;                          ///< about peers
    DescriptorBudget budget;
    RequestBudget request_budget;
};

/// What to do about a request.
struct Answer {
    enum class Action : std::uint8_t {
        kReply,
        kNothing,  ///< it was one-way
        kLater,    ///< the reply comes by Conversation::answer_late
        kHangUp,   ///< it makes no sense here: close, with `fault` logged
    };
    Action action = Action::kReply;
    mempool::shm::Reply reply;
    int passed_fd = -1;           ///< stays the pool's
    std::vector<std::byte> data;  ///< goes after the reply, in the same message
    std::string fault;
};

/// Where one connection stands.
struct Conversation {
    int socket = -1;
    Peer peer;
    std::uint64_t accepted_ticks = 0;    ///< see peer_pidfd()
    std::shared_ptr<ServedPool> pool;    ///< attached to or inspected
    std::shared_ptr<Attachment> client;  ///< empty: inspecting
    /// Closes the connection. May be called when the session is long gone.
    std::function<void()> hang_up;
    /// Sends what an answer kLater was waiting for, on a later turn of the loop. May be called when
    /// the session is long gone.
    std::function<void(const Answer&)> answer_late;
};

/// Carries out `request`, whose magic and version were checked.
Answer handle_request(Service& service, Conversation& conversation,
                      const mempool::shm::Request& request);

/// The reply that denies with `error` and says why.
mempool::shm::Reply denial(int error, const std::string& text);

/// The reply to a request of another wire version.
mempool::shm::Reply version_mismatch(std::uint16_t theirs);

}  // namespace mempoold
