// The slow paths of ClientImpl's operations: no lane yet, nothing free, an index not mapped yet, a
// slot to clean, a forked child.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "client_impl.hpp"
#include "mempool/shm/lane/waiting.hpp"

namespace mempool::detail {
namespace {

using std::chrono::nanoseconds;

/// Slots ahead of the one being put whose words are fetched.
constexpr std::size_t kPrefetchAhead = 8;

void tell(std::error_code* error, Errc why) noexcept {
    if (error != nullptr) {
        *error = why;
    }
}

/// Gets a slot from `lane`; a failure that was `counted` before is not counted again.
shm::GetResult take_from(shm::Lane& lane, std::uint32_t limit, shm::Taken& taken, bool counted,
                         shm::Turn turn) noexcept {
    std::atomic<std::uint64_t>& counter = lane.record().exhausted;
    const std::uint64_t failures = counter.load(std::memory_order_relaxed);
    const shm::GetResult result = lane.get(limit, taken, turn);
    if (counted && counter.load(std::memory_order_relaxed) != failures) {
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
    const Errc no_lane = open_home();
    if (no_lane == kNone) {
        use(home_->lane);
    }
    return no_lane;
}

// Getting.

Errc ClientImpl::take(shm::Taken& taken, bool counted, shm::Turn turn,
                      shm::GetResult& result) noexcept {
    for (;;) {
        if (closed_.load(std::memory_order_acquire)) {
            return Errc::kClosed;
        }
        if (forked()) {
            return Errc::kForked;
        }
        if (ended()) {
            return Errc::kEnded;
        }
        // What may come with one slot is a magazine, and the fast path takes the rest of it.
        const std::uint32_t allowed = quota_.allow(pool_.magazine_capacity());
        if (allowed == 0) {
            return Errc::kOverQuota;
        }
        const std::uint32_t limit = hot.limit.load(std::memory_order_acquire);
        const Errc no_lane = with_lane(
            [&](shm::Lane& lane) { result = take_from(lane, limit, taken, counted, turn); });
        if (no_lane != kNone || result != shm::GetResult::kOk) {
            quota_.give_back(allowed);
        }
        if (no_lane != kNone || result == shm::GetResult::kOk) {
            return no_lane;
        }
        if (result == shm::GetResult::kEnded) {
            return Errc::kEnded;
        }
        if (result != shm::GetResult::kUnmapped) {
            ask_for_growth();
            return kNone;
        }
        if (!map_beyond(limit)) {
            share_if_waited_for();  // others may be able to map it
            return ended() ? Errc::kEnded : Errc::kSegmentUnavailable;
        }
    }
}

void ClientImpl::share_if_waited_for() noexcept {
    if (pool_.live().waiters.load(std::memory_order_relaxed) != 0) {
        with_lane([](shm::Lane& lane) { lane.share(); });
    }
}

Got ClientImpl::get_slowly(std::error_code* error) noexcept {
    const Stay stay(*this);
    shm::Taken taken;
    shm::GetResult result = shm::GetResult::kExhausted;
    const Errc why =
        stay.refusal() != kNone ? stay.refusal() : take(taken, false, shm::Turn::kUsual, result);
    if (why == kNone && result == shm::GetResult::kOk) {
        share_if_waited_for();  // a whole magazine came with the slot
        return got_of(taken);
    }
    tell(error, why == kNone ? Errc::kExhausted : why);
    return {};
}

Slot ClientImpl::get_until(shm::MonotonicClock::time_point deadline,
                           std::error_code* error) noexcept {
    const Stay stay(*this);
    shm::Taken taken;
    const Errc why = stay.refusal() != kNone ? stay.refusal() : take_until(deadline, taken);
    if (why == kNone) {
        share_if_waited_for();
        return Slot(got_of(taken));
    }
    tell(error, why);
    return {};
}

Errc ClientImpl::take_until(shm::MonotonicClock::time_point deadline, shm::Taken& taken) noexcept {
    shm::GetResult result = shm::GetResult::kExhausted;
    Errc why = take(taken, false, shm::Turn::kUsual, result);
    if (why != kNone || result == shm::GetResult::kOk) {
        return why;
    }
    if (shm::MonotonicClock::now() >= deadline) {
        return Errc::kTimedOut;
    }
    shm::LaneRecord* record = nullptr;
    with_lane([&](shm::Lane& lane) { record = &lane.record(); });
    if (record == nullptr) {
        return Errc::kPoolDamaged;
    }
    result = shm::wait(pool_, *record, deadline, [&](shm::Turn turn) {
        why = take(taken, true, turn, result);
        return why == kNone ? result : shm::GetResult::kUnmapped;  // ends the wait
    });
    return why != kNone || result == shm::GetResult::kOk ? why : Errc::kTimedOut;
}

std::size_t ClientImpl::get_bulk(std::span<Slot> slots, std::error_code* error) noexcept {
    // Mostly all of them are empty; to count them takes no branch.
    const auto holds_one = [](const Slot& slot) { return static_cast<bool>(slot); };
    if (std::count_if(slots.begin(), slots.end(), holds_one) != 0) [[unlikely]] {
        for (Slot& slot : slots) {
            slot.reset();
        }
    }
    std::size_t filled = 0;
    if (ThreadLane* mine = cached_lane(serial()); mine != nullptr) {
        const std::uint32_t limit = hot.limit.load(std::memory_order_acquire);
        // Copies, for the loop that calls it.
        Slot* next = slots.data();
        const auto fill = [&next, owner = Owner(this, options()),
                           bits = mine->lane.held_bits()](shm::Held held) {
            next->fill(owner, name_of(bits, held));
            ++next;
        };
        shm::GetResult result = shm::GetResult::kOk;
        std::uint32_t wanted = 0;
        std::uint32_t got = 0;
        do {
            wanted = quota_.allow(static_cast<std::uint32_t>(
                std::min<std::size_t>(slots.size() - filled, shm::kMaxIndices)));
            result = mine->lane.get_bulk(limit, wanted, fill, got);
            quota_.give_back(wanted - got);
            filled += got;
        } while (wanted != 0 && got == wanted && filled < slots.size());
        if (result == shm::GetResult::kExhausted || result == shm::GetResult::kBusy) {
            ask_for_growth();
            tell(error, closed_.load(std::memory_order_acquire) ? Errc::kClosed : Errc::kExhausted);
            return filled;
        }
        if (filled == slots.size()) {
            share_if_waited_for();
            return filled;
        }
    }
    return get_one_by_one(slots, filled, error);
}

// Not inlined: it would cost the loop above a register.
[[gnu::noinline]] std::size_t ClientImpl::get_one_by_one(std::span<Slot> slots, std::size_t filled,
                                                         std::error_code* error) noexcept {
    const Stay stay(*this);
    if (stay.refusal() != kNone) {
        tell(error, stay.refusal());
        return filled;
    }
    while (filled < slots.size()) {
        shm::Taken taken;
        shm::GetResult result = shm::GetResult::kExhausted;
        const Errc why = take(taken, false, shm::Turn::kUsual, result);
        if (why != kNone || result != shm::GetResult::kOk) {
            tell(error, why == kNone ? Errc::kExhausted : why);
            break;
        }
        slots[filled++] = Slot(got_of(taken));
    }
    share_if_waited_for();
    return filled;
}

// Putting.

bool ClientImpl::still_out(shm::Taken t) const noexcept {
    const shm::SlotWord word{pool_.word(t.index).load(std::memory_order_acquire)};
    return (word.is_held() || word.state() == shm::SlotState::kDetached) &&
           word.generation() == t.generation;
}

bool ClientImpl::is_tagged(shm::Taken t) const noexcept {
    return pool_.record(t.index).tag.load(std::memory_order_relaxed) != 0;
}

// First the slot becomes this client's under a generation that nobody else knows, then it is
// cleaned: whoever stops in between can't wipe what a next holder wrote.
template <typename Take>
Errc ClientImpl::put_clean(shm::Taken t, bool erase, Take take, shm::PutResult& result) noexcept {
    const Errc no_lane = with_lane([&](shm::Lane& lane) { result = take(lane, t); });
    if (no_lane != kNone || result != shm::PutResult::kOk) {
        return no_lane;
    }
    pool_.record(t.index).tag.store(0, std::memory_order_relaxed);
    if (erase) {
        std::memset(pool_.slot(t.index), 0, slot_size);
    }
    return with_lane([&](shm::Lane& lane) { result = lane.put_private(t); });
}

Errc ClientImpl::put_slowly(Handle name, std::uint32_t flags) noexcept {
    const shm::Taken t = taken_of(name);
    shm::PutResult result{};
    const auto put_own = [&](shm::Lane& lane) {
        result = (flags & kShown) != 0 ? lane.put_shown(t) : lane.put_private(t);
    };
    ThreadLane* mine = forked() ? nullptr : own_lane(*this);
    if (mine != nullptr && (flags == 0 || !(erases() || is_tagged(t)))) {
        put_own(mine->lane);
        return result == shm::PutResult::kOk ? kNone : error_of(result, name);
    }
    const Stay stay(*this);
    if (stay.refusal() != kNone) {
        return stay.refusal();
    }
    const bool erase = erases();
    const auto take = [limit = pool_.index_limit()](shm::Lane& lane, shm::Taken& slot) {
        return lane.renew(slot, limit);
    };
    const Errc no_lane =
        erase || is_tagged(t) ? put_clean(t, erase, take, result) : with_lane(put_own);
    if (no_lane != kNone) {
        return no_lane;
    }
    return result == shm::PutResult::kOk ? kNone : error_of(result, name);
}

Errc ClientImpl::put_shared(Handle handle) noexcept {
    ThreadLane* mine = cached_lane(serial());
    const std::uint32_t limit = hot.limit.load(std::memory_order_acquire);
    const shm::Taken t = taken_of(handle);
    if (mine == nullptr || raw(t.index) >= limit || erases() || is_tagged(t)) [[unlikely]] {
        return put_shared_slowly(handle);
    }
    const shm::PutResult result = mine->lane.put(t, limit);
    return result == shm::PutResult::kOk ? kNone : error_of(result, handle);
}

Errc ClientImpl::put_shared_slowly(Handle handle) noexcept {
    const Stay stay(*this);
    if (stay.refusal() != kNone) {
        return stay.refusal();
    }
    const shm::Taken t = taken_of(handle);
    shm::PutResult result{};
    do {
        // A put touches the slot's word only, so its segment need not be mapped, but to erase it.
        const std::uint32_t announced = pool_.index_limit();
        const bool known = raw(t.index) < announced;
        const bool erase = known && erases();
        if (erase && raw(t.index) >= hot.limit.load(std::memory_order_acquire) &&
            !map_beyond(raw(t.index))) {
            return Errc::kSegmentUnavailable;
        }
        const auto take = [announced](shm::Lane& lane, shm::Taken& slot) {
            return lane.adopt(slot, announced);
        };
        const Errc no_lane =
            erase || (known && is_tagged(t))
                ? put_clean(t, erase, take, result)
                : with_lane([&](shm::Lane& lane) { result = lane.put(t, announced); });
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
        case shm::PutResult::kEnded:
            return Errc::kEnded;
        case shm::PutResult::kStale:
            break;
    }
    const shm::SlotWord word{pool_.word(taken_of(handle).index).load(std::memory_order_relaxed)};
    return word.state() == shm::SlotState::kAbsent ? Errc::kNoSuchSlot : Errc::kStale;
}

Errc ClientImpl::put_by_itself(Slot& slot) noexcept {
    const Owner owner = std::exchange(slot.owner_, Owner());
    return static_cast<ClientImpl*>(owner.core())->put_slowly(slot.name_, owner.flags());
}

// In one run go the Slots of one client whose handles nobody was given; the others one by one.
std::size_t ClientImpl::put_bulk(std::span<Slot> slots) noexcept {
    std::size_t accepted = 0;
    for (std::size_t next = 0; next < slots.size();) {
        const std::size_t before = next;
        if (slots[next]) {
            accepted += static_cast<ClientImpl*>(slots[next].owner_.core())->put_run(slots, next);
        }
        if (next == before) {
            Slot& slot = slots[next++];
            accepted += slot && put_by_itself(slot) == kNone ? 1U : 0U;
        }
    }
    return accepted;
}

std::size_t ClientImpl::put_run(std::span<Slot> slots, std::size_t& next) noexcept {
    ThreadLane* mine = cached_lane(serial());
    if (mine == nullptr) {
        return 0;
    }
    Slot* slot = slots.data() + next;
    Slot* const end = slots.data() + slots.size();
    const std::uint32_t accepted = mine->lane.put_bulk<shm::Held>(
        [&slot, end, plain = Owner(this, 0), lane = &mine->lane](shm::Held& held) {
            if (slot == end || slot->owner_ != plain) [[unlikely]] {
                return false;
            }
            held = held_of(*lane, slot->name_);
            slot->owner_ = Owner();
            ++slot;
            return true;
        });
    next = static_cast<std::size_t>(slot - slots.data());
    return accepted;
}

// In one run go the handles of slots that need no cleaning and no segment mapped.
std::size_t ClientImpl::put_bulk(std::span<const Handle> handles) noexcept {
    std::size_t accepted = 0;
    for (std::size_t next = 0; next < handles.size();) {
        const std::size_t before = next;
        accepted += put_run(handles, next);
        if (next == before) {
            accepted += put_shared(handles[next++]) == kNone ? 1U : 0U;
        }
    }
    return accepted;
}

std::size_t ClientImpl::put_run(std::span<const Handle> handles, std::size_t& next) noexcept {
    ThreadLane* mine = cached_lane(serial());
    if (mine == nullptr || erases()) {
        return 0;
    }
    const std::uint32_t limit = hot.limit.load(std::memory_order_acquire);
    const shm::Pool& pool = pool_;
    const auto prefetch = [&](std::size_t k) {
        if (k < handles.size() && handles[k].index() < limit) {
            __builtin_prefetch(&pool.word(shm::SlotIndex{handles[k].index()}), 1);
        }
    };
    for (std::size_t k = next; k < next + kPrefetchAhead; ++k) {
        prefetch(k);
    }
    return mine->lane.put_bulk<shm::Taken>([&](shm::Taken& t) {
        if (next == handles.size()) {
            return false;
        }
        prefetch(next + kPrefetchAhead);
        t = taken_of(handles[next]);
        if (raw(t.index) >= limit || pool.record(t.index).tag.load(std::memory_order_relaxed) != 0)
            [[unlikely]] {
            return false;
        }
        ++next;
        return true;
    });
}

// Handing over.

// In one busy section those of this client that were not shown; what is left, one by one.
std::size_t ClientImpl::release_bulk(std::span<Slot> slots, std::span<Handle> handles) noexcept {
    const std::size_t count = std::min(slots.size(), handles.size());
    std::size_t released = 0;
    std::fill(handles.begin(), handles.end(), Handle{});
    if (ThreadLane* mine = cached_lane(serial()); mine != nullptr) {
        mine->lane.show_bulk([&, lane = &mine->lane](auto&& show) {
            Handle* handle = handles.data();
            for (Slot& slot : slots.first(count)) {
                if (slot.owner_.core() == this && show(held_of(*lane, slot.name_))) [[likely]] {
                    *handle = slot.name_;
                    slot.owner_ = Owner();
                    ++released;
                }
                ++handle;
            }
        });
    }
    for (std::size_t k = 0; released != count && k < count; ++k) {
        if (slots[k]) {
            handles[k] = slots[k].release();
            released += handles[k] ? 1U : 0U;
        }
    }
    return released;
}

Slot ClientImpl::adopt(Handle handle, std::error_code* error) noexcept {
    shm::Taken t = taken_of(handle);
    shm::PutResult result{};
    Errc why = kNone;
    std::uint32_t limit = hot.limit.load(std::memory_order_acquire);
    const Stay stay(*this);
    if (stay.refusal() != kNone) {
        why = stay.refusal();
    } else if (closed_.load(std::memory_order_acquire)) {
        why = Errc::kClosed;
    } else if (raw(t.index) >= limit && raw(t.index) < pool_.index_limit() &&
               !map_beyond(raw(t.index))) {
        why = Errc::kSegmentUnavailable;
    } else {
        limit = hot.limit.load(std::memory_order_acquire);
        why = with_lane([&](shm::Lane& lane) { result = lane.adopt(t, limit); });
    }
    if (why == kNone) {
        why = error_of(result, handle);
    }
    if (why == kNone) {
        // Nobody was given the handle. But its sender may have tagged it, or be about to: a look
        // for a tag comes before its return.
        Got got = got_of(t);
        got.owner.add(kTagged);
        return Slot(got);
    }
    tell(error, why);
    return {};
}

bool ClientImpl::show(Handle name) noexcept {
    const shm::Taken t = taken_of(name);
    if (ThreadLane* mine = cached_lane(serial()); mine != nullptr) [[likely]] {
        return mine->lane.show(t) == shm::PutResult::kOk;
    }
    const Stay stay(*this);
    shm::PutResult result{};
    return stay.refusal() == kNone &&
           with_lane([&](shm::Lane& lane) { result = lane.show(t); }) == kNone &&
           result == shm::PutResult::kOk;
}

Errc ClientImpl::detach(Handle handle) noexcept {
    const Stay stay(*this);
    if (stay.refusal() != kNone) {
        return stay.refusal();
    }
    shm::PutResult result{};
    const std::uint32_t limit = pool_.index_limit();
    const Errc no_lane =
        with_lane([&](shm::Lane& lane) { result = lane.detach(taken_of(handle), limit); });
    return no_lane != kNone ? no_lane : error_of(result, handle);
}

void ClientImpl::set_tag(Handle handle, std::uint32_t tag) noexcept {
    const Stay stay(*this);
    const shm::Taken t = taken_of(handle);
    if (stay.refusal() == kNone && !ended() && raw(t.index) < pool_.index_limit() && still_out(t)) {
        pool_.record(t.index).tag.store(tag, std::memory_order_relaxed);
    }
}

}  // namespace mempool::detail
