#include "daemon/supervision/served_pool.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "mempool/shm/depot/depot.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"

namespace mempoold {

namespace shm = mempool::shm;

std::uint64_t epoch_now() noexcept {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

namespace {

std::uint64_t boot_now_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

// The inode of this process's time namespace; 0 where it is not to be found out.
std::uint32_t time_namespace() noexcept {
    struct stat found {};
    return ::stat("/proc/self/ns/time", &found) == 0 ? static_cast<std::uint32_t>(found.st_ino) : 0;
}

}  // namespace

ServedPool::ServedPool(PoolConfig config, std::unique_ptr<Storage> storage, Worker& worker)
    : worker_(worker),
      config_(std::move(config)),
      storage_(std::move(storage)),
      clients_(storage_->view()),
      clock_(storage_->view().live()) {
    clock_.start(boot_now_ns(), time_namespace(), epoch_now());
}

std::uint64_t ServedPool::tick() noexcept { return clock_.tick(boot_now_ns()); }

void ServedPool::publish_options() const noexcept {
    view().live().options.store(config_.erase_on_put ? shm::kEraseOnPut : 0,
                                std::memory_order_relaxed);
    view().live().quota.store(config_.quota, std::memory_order_relaxed);
}

// Calls `work(erase)` with what erases a slot, or nullptr.
template <typename Work>
auto ServedPool::with_erase(Work work) {
    return config_.erase_on_put ? work([this](shm::SlotIndex i) { storage_->erase(i); })
                                : work(nullptr);
}

void ServedPool::begin_service(bool is_new) {
    shm::Live& live = view().live();
    tick();
    publish_options();
    if (!is_new) {
        take_back_what_was_left();
        heed_cut_growth();
    }
    live.daemon_starts.fetch_add(1, std::memory_order_relaxed);
    live.daemon_pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_release);
}

void ServedPool::take_back_what_was_left() {
    restore();
    // Nobody is served yet, so this is done at once. The former daemon is dead as its clients are.
    const auto gone = [this](shm::ClientId c) { return c == shm::kDaemonClient || is_gone(c); };
    const Reclaimed taken =
        with_erase([&](auto erase) { return shm::reclaim(view(), gone, erase); });
    for (std::uint32_t id = 1; id < clients_.size(); ++id) {
        if (!clients_.is_attached(shm::ClientId{id})) {
            view()
                .client(shm::ClientId{id})
                .state.store(shm::ClientState::kFree, std::memory_order_release);
        }
    }
    if (taken.slots != 0 || taken.magazines != 0 || taken.lanes != 0) {
        log_info(
            "pool '{}': took back {} slots, {} magazines and {} lanes of clients that are gone",
            name(), taken.slots, taken.magazines, taken.lanes);
    }
    const shm::AuditResult audit = shm::audit(view());
    if (!audit.findings.empty()) {
        log_warning(
            "pool '{}': the audit of {} slots found {} faults; see mempoolctl audit {}, and "
            "its --repair",
            name(), audit.slots, audit.findings.size(), name());
    }
}

void ServedPool::end_service() noexcept {
    if (new_segment_) {
        new_segment_.reset();
        view().live().growing.store(0, std::memory_order_relaxed);
    }
    view().live().daemon_pid.store(0, std::memory_order_release);
}

std::optional<shm::ClientId> ServedPool::attach(const ClientIdentity& client) {
    return clients_.add(client, tick());
}

void ServedPool::give_up() noexcept {
    given_up_ = true;
    if (under_way_ == 0) {
        storage_->give_up();
    }
}

void ServedPool::end_work() noexcept {
    if (--under_way_ == 0 && given_up_) {
        storage_->give_up();
    }
}

// Whoever wrote there wrote over what the clients need to find the pool's slots: not a matter for
// an operator, since the daemon knows for certain what belongs there.
shm::Repaired ServedPool::restore() {
    const Storage::Restored restored = storage_->restore();
    shm::Repaired done;
    done[shm::Fault::kHeader] = restored.header ? 1 : 0;
    done[shm::Fault::kSegmentTable] = restored.entries;
    const bool wrong = done.total() != 0;
    if (wrong && !restored_) {
        log_warning("pool '{}': somebody wrote over its {}; restored. See mempoolctl audit {}",
                    name(), restored.header ? "header" : "segment table", name());
    }
    restored_ = wrong;
    return done;
}

shm::Repaired ServedPool::repair() {
    publish_options();
    shm::Repaired done = restore();
    done[shm::Fault::kClientRecord] += clients_.restore();
    // While nothing is under way the daemon holds nothing: what says so was written over.
    const auto gone = [this](shm::ClientId c) {
        return c == shm::kDaemonClient ? under_way_ == 0 : is_gone(c);
    };
    const bool alone = clients_.count() == 0;
    const shm::Repaired rest =
        with_erase([&](auto erase) { return shm::repair(view(), gone, alone, erase); });
    for (std::size_t k = 0; k < done.mended.size(); ++k) {
        done.mended.at(k) += rest.mended.at(k);
    }
    const std::uint32_t excess = excess_of_waiters();
    if (excess != 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
        done[shm::Fault::kWaiters] += subtract_waiters(excess) ? 1U : 0U;
    }
    growth_pending_ = true;
    return done;
}

namespace {
constexpr std::chrono::seconds kLongestTick{5};
}  // namespace

void ServedPool::tick_second() {
    const std::uint64_t now = tick();
    storage_->check_sizes();
    storage_->check_names();
    publish_options();
    restore();
    mend_rings();
    shm::rehint(view());
    shm::take_out_the_stopped(view());
    correct_waiters();
    watch_quota();
    // Slots are stamped with the time of the last tick. While there was none, stamps say nothing
    // about age: let them all grow old again.
    const Clock::time_point ticked = Clock::now();
    const bool regular = last_tick_ && ticked - *last_tick_ < kLongestTick &&
                         now - last_tick_time_ <= std::uint64_t{kLongestTick.count()};
    last_tick_ = ticked;
    last_tick_time_ = now;
    if (!regular) {
        next_detached_scan_ = now + config_.detached_ttl_s;
    }
    if (config_.detached_ttl_s != 0 && now >= next_detached_scan_ && !freeing_detached_) {
        next_detached_scan_ = now + std::clamp<std::uint64_t>(config_.detached_ttl_s / 4, 1, 60);
        freeing_detached_ = true;
        free_detached(config_.detached_ttl_s, [this, age = config_.detached_ttl_s](auto freed) {
            freeing_detached_ = false;
            if (freed != 0) {
                log_info("pool '{}': freed {} slots that were detached for {} s or longer", name(),
                         freed, age);
            }
        });
    }
}

// The count is a hint: a waiter that died is still in it. What stays wrong for a second by the same
// figure is no waiter on its way in or out.
void ServedPool::correct_waiters() noexcept {
    if (waiters_off_ != 0 && subtract_waiters(waiters_off_)) {
        waiters_off_ = 0;
    } else {
        waiters_off_ = excess_of_waiters();
    }
}

std::uint32_t ServedPool::excess_of_waiters() const noexcept {
    return view().live().waiters.load(std::memory_order_relaxed) - shm::count_waiters(view());
}

// Only if it still is too high by that.
bool ServedPool::subtract_waiters(std::uint32_t excess) noexcept {
    std::uint32_t stored = view().live().waiters.load(std::memory_order_relaxed);
    return excess_of_waiters() == excess && view().live().waiters.compare_exchange_strong(
                                                stored, stored - excess, std::memory_order_relaxed);
}

// A ring that was damaged blocks all that its magazines hold, and needs nobody's consent to be made
// anew: it holds hints only.
void ServedPool::mend_rings() {
    const shm::Pool& pool = view();
    const bool damaged = !shm::rings_fit(pool);
    if (damaged && rings_damaged_) {
        const std::uint32_t hints = shm::mend_rings(pool);
        log_warning("pool '{}': its rings were damaged; made anew, with {} hints", name(), hints);
    }
    rings_damaged_ = damaged && !rings_damaged_;
}

// Counting takes a pass over the slot words, so only where there is a quota, and by the worker: it
// only reads.
void ServedPool::watch_quota() {
    if (config_.quota == 0 || clients_.count() == 0 || counting_) {
        return;
    }
    counting_ = true;
    const auto held_by = std::make_shared<std::vector<std::uint64_t>>();
    worker_.submit(
        [self = shared_from_this(), held_by] { *held_by = shm::take_census(self->view()).held_by; },
        [self = shared_from_this(), held_by] {
            self->counting_ = false;
            self->report_quota(*held_by);
        });
}

void ServedPool::report_quota(const std::vector<std::uint64_t>& held_by) {
    for (const std::uint32_t id : quota_watch_.look(held_by, config_.quota, Clock::now())) {
        if (clients_.is_attached(shm::ClientId{id})) {
            const ClientIdentity& client = clients_.identity(shm::ClientId{id});
            log_warning(
                "pool '{}': client {} (pid {}, uid {}, {}) holds {} slots, more than the quota of "
                "{}",
                name(), id, client.process.pid, client.uid, client.command, held_by[id],
                config_.quota);
        }
    }
}

void ServedPool::reconfigure(const PoolConfig& config) {
    PoolConfig next = config;
    if (config_.slot_size != next.slot_size || config_.slots != next.slots ||
        config_.max_slots != next.max_slots || config_.max_clients != next.max_clients ||
        config_.cache_bytes != next.cache_bytes || config_.backing != next.backing ||
        config_.owner != next.owner || config_.group != next.group || config_.mode != next.mode) {
        log_warning(
            "pool '{}': slot_size, slots, max_slots, cache_bytes, max_clients, backing, owner, "
            "group "
            "and mode cannot change while it exists; the other keys of {} apply",
            name(), next.source);
    }
    config_ = std::move(next);
    publish_options();
    growth_pending_ = true;
    growth_retry_ = {};
}

}  // namespace mempoold
