// How a pool in service grows: one wish after another, the memory made by the worker.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <new>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/supervision/grower.hpp"
#include "daemon/supervision/served_pool.hpp"
#include "mempool/shm/depot/depot.hpp"
#include "mempool/shm/recovery/census.hpp"

namespace mempoold {

namespace shm = mempool::shm;

namespace {

std::uint64_t activity_of(const shm::Pool& view) { return shm::Depot(view).activity(); }

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

}  // namespace mempoold
