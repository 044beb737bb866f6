// All attachments of all pools: finds them, looks at them, and forgets them.
//
// Used by sessions (who comes), Daemon (start, each second) and requests of operators. What happens
// to one client is Attachment's business.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/base/worker.hpp"
#include "daemon/storage/fd_store.hpp"
#include "daemon/supervision/attachment.hpp"
#include "daemon/supervision/process.hpp"
#include "daemon/supervision/served_pool.hpp"

namespace mempoold {

class Supervisor {
public:
    /// `worker` reads what may take long; `store` keeps clients' pidfds for the next daemon. Both
    /// outlive it.
    Supervisor(boost::asio::io_context& io, Worker& worker, FdStore& store)
        : io_(io), worker_(worker), store_(store) {}
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;
    ~Supervisor() = default;

    /// Client `id` of `pool`, which attached a moment ago, is watched from now on. It is offered.
    std::shared_ptr<Attachment> attach(const std::shared_ptr<ServedPool>& pool,
                                       mempool::shm::ClientId id, UniqueFd pidfd);

    /// Readmits the clients of a former daemon but for those that certainly have ended: these are
    /// left to the sweep.
    void adopt(const std::shared_ptr<ServedPool>& pool);

    /// The attachment of client `number`, which may be anybody's claim, or nullptr.
    [[nodiscard]] std::shared_ptr<Attachment> find(const ServedPool& pool,
                                                   std::uint64_t number) const;

    /// Looks at each client of `pool` now; returns how many it found gone.
    std::uint32_t sweep(const ServedPool& pool);
    /// Each second: looks at some clients, at all of them in turn.
    void recheck();

    /// Forgets all clients of `pool` without touching it.
    void drop(const ServedPool& pool);

private:
    friend class Attachment;
    using Key = std::pair<const ServedPool*, std::uint32_t>;
    using Clock = std::chrono::steady_clock;

    /// The worker is to read the maps of the client's process. One is read at a time, in the order
    /// in which they were asked for, and a tenth of each second goes to that at most: a process can
    /// make its own take long.
    void queue_look(std::shared_ptr<Attachment> client);
    /// In the next second once more, whoever's turn it is.
    void look_again(std::shared_ptr<Attachment> client) { again_.push_back(std::move(client)); }
    void begin_next_look();
    void forget(const Attachment& client);
    void keep_pidfd(const Attachment& client, int pidfd);
    void forget_pidfd(const Attachment& client);

    boost::asio::io_context& io_;
    Worker& worker_;
    FdStore& store_;
    std::map<Key, std::shared_ptr<Attachment>> clients_;
    Key next_recheck_{nullptr, 0};
    std::deque<std::shared_ptr<Attachment>> looks_;
    std::vector<std::shared_ptr<Attachment>> again_;
    bool looking_ = false;
    Clock::duration look_time_left_{};  // of this second
};

}  // namespace mempoold
