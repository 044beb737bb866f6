// One pool in service: its storage, its clients, and the work that comes up for it over time.
//
// Made by Daemon, used by sessions and the supervisor, all on the daemon's one thread. Opens no
// socket, watches no process: it is told who came and who is gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "daemon/config/pool_config.hpp"
#include "daemon/storage/storage.hpp"
#include "daemon/supervision/client_table.hpp"
#include "daemon/supervision/quota_watch.hpp"
#include "mempool/shm/pool_clock.hpp"
#include "mempool/shm/reclaim.hpp"
#include "mempool/shm/repair.hpp"

namespace mempoold {

/// Seconds since the epoch.
std::uint64_t epoch_now() noexcept;

class ServedPool {
public:
    using Clock = std::chrono::steady_clock;

    ServedPool(PoolConfig config, std::unique_ptr<Storage> storage);

    /// Once the clients of a former daemon are readmitted: takes back what others left, audits, and
    /// shows that a daemon is there.
    void begin_service();
    /// Shows that no daemon is there. The pool stays for its clients.
    void end_service() const noexcept;

    /// Leaves the pool to whoever serves its name next: the file can't be believed any more.
    void give_up() noexcept { storage_->give_up(); }

    /// Attaches a client; nullopt if the pool has its most.
    std::optional<mempool::shm::ClientId> attach(const ClientIdentity& client);
    /// Takes back all that client `id` owned, then frees the id. `died`: it didn't say goodbye.
    mempool::shm::Reclaimed detach(mempool::shm::ClientId id, bool died);
    /// Takes back what nobody attached owns.
    mempool::shm::Reclaimed sweep();
    /// Frees slots that have been detached for that long; how many.
    std::uint64_t free_detached(std::uint64_t seconds);

    /// Mends what can be mended without touching anything of a live client; how much of each Fault.
    mempool::shm::Repaired repair();

    /// Adds a segment of `slots` slots, or as many as max_slots leaves; how many. Throws
    /// std::system_error: ENOSPC at max_slots or without memory, EINVAL for 0.
    std::uint32_t grow(std::uint64_t slots);
    /// Grows if its policy says so and something has changed since it was asked last.
    void consider_growth(Clock::time_point now);
    /// What comes up each second: the clock in shared memory, missing hints, waiters, the quota,
    /// detached slots.
    void tick_second();

    /// Takes over what may change while a pool lives, and warns of what may not.
    void reconfigure(const PoolConfig& config);

    [[nodiscard]] const std::string& name() const noexcept { return config_.name; }
    [[nodiscard]] const PoolConfig& config() const noexcept { return config_; }
    [[nodiscard]] const Storage& storage() const noexcept { return *storage_; }
    [[nodiscard]] const mempool::shm::Pool& view() const noexcept { return storage_->view(); }
    [[nodiscard]] ClientTable& clients() noexcept { return clients_; }

private:
    void publish_options() const noexcept;
    /// By how much the sum of waiters is too high, modulo 2^32.
    [[nodiscard]] std::uint32_t excess_of_waiters() const noexcept;
    void correct_waiters() noexcept;
    bool subtract_waiters(std::uint32_t excess) noexcept;
    /// Restores header and segment table, and makes rings anew that were damaged a second ago too.
    mempool::shm::Repaired restore();
    void mend_rings();
    /// Whether what client `c` owns is nobody's; the daemon itself holds nothing between two calls.
    [[nodiscard]] bool is_gone(mempool::shm::ClientId c) const noexcept;
    template <typename Work>
    auto with_erase(Work work);
    void add_segment(std::uint32_t slots);
    void growth_failed(std::uint32_t slots, const char* why, Clock::time_point now);
    void watch_quota();

    PoolConfig config_;
    std::unique_ptr<Storage> storage_;
    ClientTable clients_;
    mempool::shm::PoolClock clock_;

    std::uint64_t seen_activity_ = 0;
    bool growth_pending_ = true;  // ask the policy even if nothing moved
    bool growth_wanted_ = false;  // a client found the depot empty
    std::uint32_t growth_failures_ = 0;
    Clock::time_point growth_retry_{};

    std::uint32_t waiters_off_ = 0;  // by how much the count was wrong a second ago
    bool rings_damaged_ = false;     // a second ago
    bool restored_ = false;          // header or segment table, when they were looked at last
    std::uint64_t next_detached_scan_ = 0;
    std::optional<Clock::time_point> last_tick_;
    std::uint64_t last_tick_time_ = 0;  // the same, by the pool's clock
    QuotaWatch quota_watch_;
};

}  // namespace mempoold
