// One pool in service: its storage, its clients, and the work that comes up for it over time.
//
// Made by Daemon, used by sessions and the supervisor, all on the loop's thread. Opens no socket,
// watches no process: it is told who came and who is gone. What takes long is handed to the worker,
// or done in pieces: such a call has a `done`, which is called once, before it returns if there was
// little to do, later otherwise, and never if the daemon ends first. Passes and growth have files
// of their own, served_pool_passes.cpp and served_pool_growth.cpp.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "daemon/base/worker.hpp"
#include "daemon/config/pool_config.hpp"
#include "daemon/storage/new_segment.hpp"
#include "daemon/storage/storage.hpp"
#include "daemon/supervision/client_table.hpp"
#include "daemon/supervision/quota_watch.hpp"
#include "mempool/shm/recovery/reclaim.hpp"
#include "mempool/shm/recovery/repair.hpp"
#include "mempool/shm/words/pool_clock.hpp"

namespace mempoold {

/// Seconds since the epoch.
std::uint64_t epoch_now() noexcept;

/// What came of a wish for growth.
struct Growth {
    std::uint32_t added = 0;
    std::optional<std::system_error> refused;  ///< why nothing was added
};

class ServedPool : public std::enable_shared_from_this<ServedPool> {
public:
    using Clock = std::chrono::steady_clock;
    using Reclaimed = mempool::shm::Reclaimed;

    ServedPool(PoolConfig config, std::unique_ptr<Storage> storage, Worker& worker);

    /// Once the clients of a former daemon are readmitted: takes back what others left, audits, and
    /// shows that a daemon is there. In a new pool nobody left anything.
    void begin_service(bool is_new);
    /// Shows that no daemon is there. The pool stays for its clients. The worker was stopped.
    void end_service() noexcept;

    /// Leaves the pool to whoever serves its name next: the file can't be believed any more. What
    /// is under way ends early, and the pool is free when it has.
    void give_up() noexcept;

    /// Attaches a client; nullopt if the pool has its most.
    std::optional<mempool::shm::ClientId> attach(const ClientIdentity& client);
    /// Takes back all that client `id` owned, then frees the id, then calls `done`. `died`: it
    /// didn't say goodbye.
    void detach(mempool::shm::ClientId id, bool died, std::function<void(const Reclaimed&)> done);

    /// What was taken from a client that was ended while its process may live.
    struct EndedClient {
        std::uint64_t slots = 0;
        std::uint32_t magazines = 0;
        std::uint64_t left = 0;  ///< slots it holds still
        std::uint32_t busy =
            0;  ///< lanes in mid-operation, whose caches stay; with any, so do slots
    };
    /// Ends client `id`: it is refused everywhere, and its idle caches go to others; `force`: also
    /// what its program has in hand, while that may write there. The id stays taken until detach().
    /// Called again, takes what was busy the last time.
    void end_client(mempool::shm::ClientId id, bool force,
                    std::function<void(const EndedClient&)> done);
    /// Takes what an ended client had cached in lanes that were busy before; how many still are.
    std::uint32_t shut_out(mempool::shm::ClientId id) const;
    /// Takes back what nobody attached owns.
    void sweep(std::function<void(const Reclaimed&)> done);
    /// Frees slots that have been detached for that long; tells `done` how many.
    void free_detached(std::uint64_t seconds, std::function<void(std::uint64_t)> done);

    /// Mends what can be mended without touching anything of a live client; how much of each Fault.
    mempool::shm::Repaired repair();

    /// Adds a segment of `slots` slots, or as many as max_slots leaves, once growths that were
    /// asked for before are over. Refuses with ENOSPC at max_slots or without memory, EINVAL for 0.
    void grow(std::uint64_t slots, std::function<void(const Growth&)> done);
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
    /// Moves the pool's clock on; its time in seconds.
    std::uint64_t tick() noexcept;
    void publish_options() const noexcept;
    /// By how much the sum of waiters is too high, modulo 2^32.
    [[nodiscard]] std::uint32_t excess_of_waiters() const noexcept;
    void correct_waiters() noexcept;
    bool subtract_waiters(std::uint32_t excess) noexcept;
    /// Restores header and segment table, and makes rings anew that were damaged a second ago too.
    mempool::shm::Repaired restore();
    void mend_rings();
    /// Whether what client `c` owns is nobody's. What the daemon holds itself is not, but when it
    /// starts: it may stand in the list of a pass.
    [[nodiscard]] bool is_gone(mempool::shm::ClientId c) const noexcept {
        return !clients_.is_attached(c);
    }
    template <typename Work>
    auto with_erase(Work work);

    [[nodiscard]] bool is_given_up() const noexcept { return given_up_ || storage_->faulted(); }
    void begin_work() noexcept { ++under_way_; }
    void end_work() noexcept;
    /// How many slots a pass holds at a time to be erased; 0 where nothing is.
    [[nodiscard]] std::size_t erase_batch() const noexcept;
    template <typename Pass>
    void carry_on(const std::shared_ptr<Pass>& pass, const std::function<void()>& done);
    void erase(const std::vector<mempool::shm::HeldSlot>& slots, std::function<void()> done);

    struct Wish {
        std::uint64_t slots = 0;
        std::function<void(const Growth&)> done;
    };
    void take_back_what_was_left();
    void heed_cut_growth();
    [[nodiscard]] std::uint32_t check_growth(std::uint64_t slots) const;
    void begin_growth();
    void finish_growth();
    void end_growth(const Growth& growth);
    void growth_failed(std::uint32_t slots, const char* why, Clock::time_point now);
    void watch_quota();
    void report_quota(const std::vector<std::uint64_t>& held_by);

    Worker& worker_;
    PoolConfig config_;
    std::unique_ptr<Storage> storage_;
    ClientTable clients_;
    mempool::shm::PoolClock clock_;
    std::atomic<bool> given_up_{false};  // the worker's jobs look at it
    std::uint32_t under_way_ = 0;        // passes and growths; the files stay open meanwhile

    std::deque<Wish> wishes_;                  // for growth: the first is being fulfilled
    std::unique_ptr<NewSegment> new_segment_;  // its

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
    bool freeing_detached_ = false;
    bool counting_ = false;  // for the quota
    QuotaWatch quota_watch_;
};

}  // namespace mempoold
