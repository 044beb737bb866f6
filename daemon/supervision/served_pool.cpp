#include "daemon/supervision/served_pool.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/erasure.hpp"
#include "daemon/supervision/grower.hpp"
#include "mempool/shm/audit.hpp"
#include "mempool/shm/census.hpp"
#include "mempool/shm/depot.hpp"
#include "mempool/shm/end_client.hpp"

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

std::uint64_t activity_of(const shm::Pool& view) {
    const shm::Depot depot(view);
    return depot.full_ring().activity() + depot.empty_ring().activity();
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
    clock_.tick(boot_now_ns());
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
    return clients_.add(client, clock_.tick(boot_now_ns()));
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

namespace {
/// Words that a pass looks at in one turn of the loop: about a millisecond.
constexpr std::size_t kLooksPerTurn = 100'000;
constexpr std::uint64_t kBatchBytes = std::uint64_t{64} << 20U;
constexpr std::uint64_t kBatchSlots = 16'384;
}  // namespace

std::size_t ServedPool::erase_batch() const noexcept {
    const std::uint64_t by_bytes = kBatchBytes / view().geometry().slot_stride;
    return config_.erase_on_put ? std::clamp<std::uint64_t>(by_bytes, 1, kBatchSlots) : 0;
}

// Does the next piece of `pass`. What begin_work() began ends with `done`.
template <typename Pass>
void ServedPool::carry_on(const std::shared_ptr<Pass>& pass, const std::function<void()>& done) {
    switch (is_given_up() ? shm::PassStep::kDone : pass->step(kLooksPerTurn)) {
        case shm::PassStep::kMore:
            worker_.take_turns([self = shared_from_this(), pass, done] {
                self->carry_on(pass, done);
                return true;
            });
            return;
        case shm::PassStep::kErase:
            erase(pass->held(), [self = shared_from_this(), pass, done] {
                pass->free_held();
                self->carry_on(pass, done);
            });
            return;
        case shm::PassStep::kDone:
            break;
    }
    end_work();
    done();
}

void ServedPool::erase(const std::vector<shm::HeldSlot>& slots, std::function<void()> done) {
    const auto erasure = std::make_shared<Erasure>(*storage_, slots);
    worker_.submit_steps(
        [self = shared_from_this(), erasure] { return self->given_up_ || erasure->step(); },
        [self = shared_from_this(), erasure, done = std::move(done)] {
            if (erasure->error() != 0) {
                log_error("pool '{}': slots could not be erased: {}", self->name(),
                          std::generic_category().message(erasure->error()));
            }
            done();
        });
}

namespace {
using Gone = std::function<bool(shm::ClientId)>;
using ReclaimPass = shm::Reclaim<Gone>;
using DetachedPass = shm::SlotPass<shm::DetachedSince>;
}  // namespace

void ServedPool::sweep(std::function<void(const Reclaimed&)> done) {
    restore();
    begin_work();
    const auto pass = std::make_shared<ReclaimPass>(
        view(), [this](shm::ClientId c) { return is_gone(c); }, erase_batch());
    carry_on(pass, [pass, done = std::move(done)] { done(pass->result()); });
}

// Until it is done the id stays taken, so nobody else's slots are meant by it (I5).
void ServedPool::detach(shm::ClientId id, bool died, std::function<void(const Reclaimed&)> done) {
    restore();
    clients_.mark_dead(id);
    begin_work();
    const auto pass = std::make_shared<ReclaimPass>(
        view(), [this, id](shm::ClientId c) { return c == id || is_gone(c); }, erase_batch());
    carry_on(pass, [this, pass, id, died, done = std::move(done)] {
        clients_.remove(id);
        if (died) {
            view().live().deaths.fetch_add(1, std::memory_order_relaxed);
        }
        done(pass->result());
    });
}

bool ServedPool::heeds_ends() const noexcept {
    return (storage_->incompat() & shm::kBoundary) != 0;
}

std::uint32_t ServedPool::shut_out(shm::ClientId id) const {
    return shm::shut_out(view(), id).busy;
}

void ServedPool::end_client(shm::ClientId id, bool force,
                            std::function<void(const EndedClient&)> done) {
    clients_.mark_ended(id);
    const shm::EndedLanes taken = shm::shut_out(view(), id);
    EndedClient result{.magazines = taken.magazines, .busy = taken.busy};
    const auto finish = [this, id, done = std::move(done)](EndedClient& ended) {
        ended.left = shm::take_census(view()).held_by[raw(id)];
        done(ended);
    };
    if (!force || taken.busy != 0) {
        finish(result);
        return;
    }
    begin_work();
    const auto pass =
        std::make_shared<shm::SlotPass<shm::HeldBy>>(view(), shm::HeldBy{id}, erase_batch());
    carry_on(pass, [this, pass, result, finish]() mutable {
        result.slots = pass->freed();
        view().live().reclaimed.fetch_add(result.slots, std::memory_order_relaxed);
        finish(result);
    });
}

void ServedPool::free_detached(std::uint64_t seconds, std::function<void(std::uint64_t)> done) {
    const std::uint64_t now = clock_.tick(boot_now_ns());
    const auto not_after = static_cast<std::uint32_t>(now > seconds ? now - seconds : 0);
    begin_work();
    const auto pass = std::make_shared<DetachedPass>(view(), shm::DetachedSince{&view(), not_after},
                                                     erase_batch());
    carry_on(pass, [pass, done = std::move(done)] { done(pass->freed()); });
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

// A growth for which the system had no memory may have ended the daemon, and would end the next one
// too: so that one waits, whoever wants more slots.
void ServedPool::heed_cut_growth() {
    constexpr std::uint32_t kFirst = 2;  // 4 s, then twice as long each time
    constexpr std::uint32_t kMost = 10;
    shm::Live& live = view().live();
    const std::uint32_t slots = live.growing.exchange(0, std::memory_order_relaxed);
    if (slots == 0) {
        return;
    }
    const std::uint32_t deaths =
        std::min(live.growth_deaths.load(std::memory_order_relaxed), kMost);
    live.growth_deaths.store(deaths + 1, std::memory_order_relaxed);
    const std::chrono::milliseconds pause{growth_backoff_ms(deaths + 1 + kFirst)};
    growth_retry_ = Clock::now() + pause;
    log_warning(
        "pool '{}': the former mempoold ended while it added {} slots, perhaps for want of memory "
        "(see the kernel's log). The pool is served without them; next try in {} s",
        name(), slots, pause.count() / 1000);
}

std::uint32_t ServedPool::check_growth(std::uint64_t slots) const {
    const std::uint32_t room = view().geometry().shape.max_slots - storage_->slots();
    if (slots == 0) {
        fail(EINVAL, "0 slots are nothing to add");
    }
    if (room == 0) {
        fail(ENOSPC, "pool '" + name() + "' is at max_slots");
    }
    if (storage_->segments().size() >= shm::kMaxSegments) {
        fail(ENOSPC, "pool '" + name() + "' has its most segments");
    }
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(slots, room));
}

void ServedPool::grow(std::uint64_t slots, std::function<void(const Growth&)> done) {
    wishes_.push_back({slots, std::move(done)});
    if (wishes_.size() == 1) {
        begin_growth();
    }
}

namespace {
// Why `work` refuses; nullopt if it does not.
template <typename Work>
std::optional<std::system_error> refusal_of(Work work) {
    try {
        work();
        return std::nullopt;
    } catch (const std::system_error& e) {
        return e;
    } catch (const std::bad_alloc&) {
        return std::system_error(ENOMEM, std::generic_category(), "mempoold has no memory left");
    }
}
}  // namespace

// The note comes before the first page is allocated, and goes when the last one is, or when all are
// given back: a daemon that finds it died in between.
void ServedPool::begin_growth() {
    std::uint32_t slots = 0;
    auto refused = refusal_of([&] { slots = check_growth(wishes_.front().slots); });
    if (!refused) {
        refused = refusal_of([&] { new_segment_ = storage_->begin_segment(slots, epoch_now()); });
        if (refused) {
            view().live().grow_failures.fetch_add(1, std::memory_order_relaxed);
        }
    }
    if (refused) {
        end_growth({.added = 0, .refused = refused});
        return;
    }
    view().live().growing.store(slots, std::memory_order_relaxed);
    begin_work();
    worker_.submit_steps(
        [self = shared_from_this()] { return self->given_up_ || self->new_segment_->step(); },
        [self = shared_from_this()] { self->finish_growth(); });
}

void ServedPool::finish_growth() {
    shm::Live& live = view().live();
    Growth growth;
    growth.refused = refusal_of([&] {
        if (is_given_up()) {
            fail(EIO, "pool '" + name() + "' was truncated by somebody and is not served any more");
        }
        storage_->announce(*new_segment_);
        growth.added = new_segment_->slots();
        live.grown.fetch_add(1, std::memory_order_relaxed);
        live.growth_deaths.store(0, std::memory_order_relaxed);
        log_info("pool '{}': grew by {} slots to {} of at most {}", name(), growth.added,
                 storage_->slots(), view().geometry().shape.max_slots);
    });
    if (growth.refused) {
        live.grow_failures.fetch_add(1, std::memory_order_relaxed);
    }
    new_segment_.reset();
    live.growing.store(0, std::memory_order_relaxed);
    end_work();
    end_growth(growth);
}

void ServedPool::end_growth(const Growth& growth) {
    const std::function<void(const Growth&)> done = std::move(wishes_.front().done);
    wishes_.pop_front();
    growth_pending_ = true;  // what was added may not be enough
    if (!wishes_.empty()) {
        begin_growth();
    }
    done(growth);
}

void ServedPool::consider_growth(Clock::time_point now) {
    shm::Live& live = view().live();
    if (live.grow_wanted.load(std::memory_order_relaxed) != 0 &&
        live.grow_wanted.exchange(0, std::memory_order_acq_rel) != 0) {
        growth_wanted_ = true;
    }
    if (storage_->slots() >= view().geometry().shape.max_slots) {
        growth_wanted_ = false;
        return;
    }
    const std::uint64_t activity = activity_of(view());
    if (growth_wanted_ || activity != seen_activity_) {
        growth_pending_ = true;
    }
    seen_activity_ = activity;
    if (!growth_pending_ || !wishes_.empty() || now < growth_retry_) {
        return;
    }
    growth_pending_ = false;
    GrowthFigures figures;
    figures.slots = storage_->slots();
    figures.max_slots = view().geometry().shape.max_slots;
    figures.segments = static_cast<std::uint32_t>(storage_->segments().size());
    figures.free = shm::count_depot(view());
    figures.watermark = config_.low_watermark.of(figures.slots);
    figures.wanted = std::exchange(growth_wanted_, false);
    figures.grow_slots = config_.grow_slots;
    figures.grow_factor = config_.grow_factor.value_or(2);
    const std::uint32_t slots = decide_growth(figures);
    if (slots == 0 || is_given_up()) {
        return;
    }
    grow(slots, [this, slots](const Growth& growth) {
        if (growth.refused) {
            growth_failed(slots, growth.refused->what(), Clock::now());
        } else {
            growth_failures_ = 0;
        }
    });
}

void ServedPool::growth_failed(std::uint32_t slots, const char* why, Clock::time_point now) {
    const std::chrono::milliseconds pause{growth_backoff_ms(++growth_failures_)};
    growth_retry_ = now + pause;
    growth_pending_ = true;
    log_warning(
        "pool '{}' has {} slots and cannot grow by {}: {}. Nothing is lost; next try in {} s",
        name(), storage_->slots(), slots, why, pause.count() / 1000);
}

namespace {
constexpr std::chrono::seconds kLongestTick{5};
}  // namespace

void ServedPool::tick_second() {
    const std::uint64_t now = clock_.tick(boot_now_ns());
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
