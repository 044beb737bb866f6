// The slow paths of ClientImpl's operations: no lane yet, nothing free, an index not mapped yet, a
// slot to clean, a forked child.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "client_impl.hpp"
#include "mempool/shm/futex.hpp"

namespace mempool::detail {
namespace {

using Clock = Connection::Clock;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// Longest sleep of a waiter: a wake may miss it, since a put does not fence.
constexpr nanoseconds kWaitSlice = milliseconds{2};
/// Slots ahead of the one being put whose words are fetched.
constexpr std::size_t kPrefetchAhead = 8;

/// Now plus `timeout`, at most the clock's end.
Clock::time_point deadline_after(nanoseconds timeout) noexcept {
    const Clock::time_point now = Clock::now();
    return timeout > Clock::time_point::max() - now ? Clock::time_point::max() : now + timeout;
}

/// Registers one who sleeps in get_for(), in its lane for the daemon and in the pool for those who
/// put. Where the lane is shared, `waiting` counts.
class Registration {
public:
    Registration(const shm::Pool& pool, shm::LaneRecord& lane) noexcept
        : waiters_(pool.live().waiters), waiting_(lane.waiting) {
        waiting_.fetch_add(1, std::memory_order_relaxed);
        // seq_cst, for what little it gives: see kWaitSlice.
        waiters_.fetch_add(1, std::memory_order_seq_cst);
    }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    ~Registration() {
        waiting_.fetch_sub(1, std::memory_order_relaxed);
        // The daemon may have corrected the sum meanwhile: never below zero.
        std::uint32_t seen = waiters_.load(std::memory_order_relaxed);
        while (seen != 0 &&
               !waiters_.compare_exchange_weak(seen, seen - 1, std::memory_order_relaxed)) {
        }
    }

private:
    std::atomic<std::uint32_t>& waiters_;
    std::atomic<std::uint32_t>& waiting_;
};

/// Gets a slot from `lane`; a failure that was `counted` before is not counted again.
shm::GetResult take_from(shm::Lane& lane, std::uint32_t limit, shm::Taken& taken,
                         bool counted) noexcept {
    std::atomic<std::uint64_t>& counter = lane.record().exhausted;
    const std::uint64_t failures = counter.load(std::memory_order_relaxed);
    const shm::GetResult result = lane.get(limit, taken);
    if (result == shm::GetResult::kExhausted && counted) {
        counter.store(failures, std::memory_order_relaxed);
    }
    return result;
}

}  // namespace

template <typename Use>
Errc ClientImpl::with_lane(Use use) noexcept {
    if (forked()) {
        return Errc::kForked;
    }
    if (ThreadLane* mine = own_lane(*this); mine != nullptr) {
        use(mine->lane);
        return kNone;
    }
    const std::lock_guard guard(home_mutex_);
    if (!open_home()) {
        return Errc::kPoolDamaged;
    }
    use(home_->lane);
    return kNone;
}

// Getting.

Errc ClientImpl::take(shm::Taken& taken, bool counted) noexcept {
    for (;;) {
        const std::uint32_t limit = hot_.limit.load(std::memory_order_acquire);
        shm::GetResult result{};
        const Errc no_lane =
            with_lane([&](shm::Lane& lane) { result = take_from(lane, limit, taken, counted); });
        if (no_lane != kNone) {
            return no_lane;
        }
        if (result == shm::GetResult::kExhausted && home_open_.load(std::memory_order_acquire)) {
            // What lies in the home lane is any thread's.
            const std::lock_guard guard(home_mutex_);
            result = take_from(home_->lane, limit, taken, true);
        }
        if (result == shm::GetResult::kOk) {
            return kNone;
        }
        if (result == shm::GetResult::kExhausted) {
            ask_for_growth();
            return Errc::kExhausted;
        }
        if (!map_beyond(limit)) {
            return Errc::kSegmentUnavailable;
        }
    }
}

Slot ClientImpl::get_slowly(std::error_code* error) noexcept {
    shm::Taken taken;
    const Errc why = take(taken, false);
    if (why == kNone) {
        return slot_of(taken, options());
    }
    if (error != nullptr) {
        *error = why;
    }
    return {};
}

Slot ClientImpl::get_for(nanoseconds timeout, std::error_code* error) noexcept {
    shm::Taken taken;
    Errc why = take(taken, false);
    if (why == Errc::kExhausted) {
        why = timeout > nanoseconds::zero() ? take_by(deadline_after(timeout), taken)
                                            : Errc::kTimedOut;
    }
    if (why == kNone) {
        return slot_of(taken, options());
    }
    if (error != nullptr) {
        *error = why;
    }
    return {};
}

Errc ClientImpl::take_by(Clock::time_point deadline, shm::Taken& taken) noexcept {
    const shm::Pool& pool = mapping_.pool();
    shm::LaneRecord* record = nullptr;
    Errc why = with_lane([&](shm::Lane& lane) { record = &lane.record(); });
    if (record == nullptr) {
        return why;
    }
    {
        const Registration registration(pool, *record);
        std::atomic<std::uint32_t>& sequence = pool.live().wake_sequence;
        for (;;) {
            const std::uint32_t seen = sequence.load(std::memory_order_acquire);
            why = take(taken, true);
            const nanoseconds left = deadline - Clock::now();
            if (why != Errc::kExhausted || left <= nanoseconds::zero()) {
                break;
            }
            shm::futex_wait(sequence, seen, std::min(left, kWaitSlice));
        }
    }
    if (why == kNone && pool.live().waiters.load(std::memory_order_relaxed) != 0) {
        // The slot came with its magazine: leave the others to those who still wait.
        with_lane([](shm::Lane& lane) { lane.share(); });
    }
    return why == Errc::kExhausted ? Errc::kTimedOut : why;
}

std::size_t ClientImpl::get_bulk(std::span<Slot> slots) noexcept {
    put_bulk(slots);
    std::size_t filled = 0;
    if (ThreadLane* mine = cached_lane(serial()); mine != nullptr) {
        const std::uint32_t limit = hot_.limit.load(std::memory_order_acquire);
        shm::GetResult result = shm::GetResult::kOk;
        shm::Taken taken;
        while (filled < slots.size() &&
               (result = mine->lane.get(limit, taken)) == shm::GetResult::kOk) {
            slots[filled++] = slot_of(taken, options());
        }
        if (result == shm::GetResult::kExhausted) {
            ask_for_growth();
            return filled;
        }
    }
    while (filled < slots.size()) {
        shm::Taken taken;
        if (take(taken, false) != kNone) {
            break;
        }
        slots[filled++] = slot_of(taken, options());
    }
    return filled;
}

// Putting.

bool ClientImpl::still_out(shm::Taken t) const noexcept {
    const shm::SlotWord word{mapping_.pool().word(t.index).load(std::memory_order_acquire)};
    return (word.state() == shm::SlotState::kHeld || word.state() == shm::SlotState::kDetached) &&
           word.generation() == t.generation;
}

// Before the put, as long as nobody else may have the slot; only if the handle names it, or a put
// of a stale handle would wipe what its next holder wrote.
void ClientImpl::clean(shm::Taken t) noexcept {
    if (!still_out(t)) {
        return;
    }
    std::atomic<std::uint32_t>& tag = mapping_.pool().tag(t.index);
    if (tag.load(std::memory_order_relaxed) != 0) {
        tag.store(0, std::memory_order_relaxed);
    }
    if (erases()) {
        std::memset(mapping_.pool().slot(t.index), 0, slot_size());
    }
}

Errc ClientImpl::put_again(shm::Held held, std::uint32_t flags) noexcept {
    if (flags == 0 && !forked()) {
        if (ThreadLane* mine = own_lane(*this); mine != nullptr) {
            const shm::PutResult result = mine->lane.put_private(held.taken());
            return result == shm::PutResult::kOk ? kNone : error_of(result, handle_of(held));
        }
    }
    return put_shared(handle_of(held));
}

Errc ClientImpl::put_shared(Handle handle) noexcept {
    ThreadLane* mine = cached_lane(serial());
    const std::uint32_t limit = hot_.limit.load(std::memory_order_acquire);
    const shm::Taken t = taken_of(handle);
    if (mine == nullptr || raw(t.index) >= limit || erases() ||
        mapping_.pool().tag(t.index).load(std::memory_order_relaxed) != 0) [[unlikely]] {
        return put_slowly(handle);
    }
    const shm::PutResult result = mine->lane.put(t, limit);
    return result == shm::PutResult::kOk ? kNone : error_of(result, handle);
}

Errc ClientImpl::put_slowly(Handle handle) noexcept {
    if (forked()) {
        return Errc::kForked;
    }
    const shm::Taken t = taken_of(handle);
    const shm::Pool& pool = mapping_.pool();
    shm::PutResult result{};
    do {
        // A put touches the slot's word only, so its segment need not be mapped, but to erase it.
        const std::uint32_t announced = pool.index_limit();
        if (raw(t.index) < announced) {
            if (erases() && raw(t.index) >= hot_.limit.load(std::memory_order_acquire) &&
                !map_beyond(raw(t.index))) {
                return Errc::kSegmentUnavailable;
            }
            clean(t);
        }
        const Errc no_lane = with_lane([&](shm::Lane& lane) { result = lane.put(t, announced); });
        if (no_lane != kNone) {
            return no_lane;
        }
    } while (result == shm::PutResult::kUnmapped);
    return result == shm::PutResult::kOk ? kNone : error_of(result, handle);
}

Errc ClientImpl::error_of(shm::PutResult result, Handle handle) const noexcept {
    switch (result) {
        case shm::PutResult::kOk:
            return kNone;
        case shm::PutResult::kUnmapped:
            return Errc::kSegmentUnavailable;
        case shm::PutResult::kOutOfRange:
            return Errc::kNoSuchSlot;
        case shm::PutResult::kNoRoom:
            return Errc::kPoolDamaged;
        case shm::PutResult::kStale:
            break;
    }
    const shm::SlotWord word{
        mapping_.pool().word(taken_of(handle).index).load(std::memory_order_relaxed)};
    return word.state() == shm::SlotState::kAbsent ? Errc::kNoSuchSlot : Errc::kStale;
}

std::size_t ClientImpl::put_bulk(std::span<Slot> slots) noexcept {
    std::size_t accepted = 0;
    for (std::size_t k = 0; k < slots.size(); ++k) {
        if (k + kPrefetchAhead < slots.size()) {
            const Slot& later = slots[k + kPrefetchAhead];
            if (later) {
                later.client_->prefetch(shm::SlotIndex{later.index_});
            }
        }
        accepted += put(slots[k]) == kNone ? 1U : 0U;
    }
    return accepted;
}

// Handing over.

Slot ClientImpl::adopt(Handle handle, std::error_code* error) noexcept {
    const shm::Taken t = taken_of(handle);
    shm::PutResult result{};
    Errc why = kNone;
    std::uint32_t limit = hot_.limit.load(std::memory_order_acquire);
    if (forked()) {
        why = Errc::kForked;
    } else if (raw(t.index) >= limit && raw(t.index) < mapping_.pool().index_limit() &&
               !map_beyond(raw(t.index))) {
        why = Errc::kSegmentUnavailable;
    } else {
        limit = hot_.limit.load(std::memory_order_acquire);
        why = with_lane([&](shm::Lane& lane) { result = lane.adopt(t, limit); });
    }
    if (why == kNone) {
        why = error_of(result, handle);
    }
    if (why == kNone) {
        return slot_of(t, kShared | options());
    }
    if (error != nullptr) {
        *error = why;
    }
    return {};
}

Errc ClientImpl::detach(Handle handle) noexcept {
    shm::PutResult result{};
    const std::uint32_t limit = hot_.limit.load(std::memory_order_acquire);
    const Errc no_lane =
        with_lane([&](shm::Lane& lane) { result = lane.detach(taken_of(handle), limit); });
    return no_lane != kNone ? no_lane : error_of(result, handle);
}

void ClientImpl::set_tag(Handle handle, std::uint32_t tag) noexcept {
    const shm::Taken t = taken_of(handle);
    if (!forked() && raw(t.index) < hot_.limit.load(std::memory_order_acquire) && still_out(t)) {
        mapping_.pool().tag(t.index).store(tag, std::memory_order_relaxed);
    }
}

}  // namespace mempool::detail
