// Mending what an audit finds, while clients work.
//
// Called by the daemon only, one call at a time a pool, when an operator asks for it. Words are the
// truth and rings hold hints, so what a word says is believed: a slot whose word says FREE is free,
// and one whose word says HELD(c) or SHOWN(c) is left to client c as long as c lives. What no word
// tells is mended only while no client is attached: one might be using it.
//
//   fault           mended                                                    while clients live
//   kRing           all cells emptied in a new lap, then hinted anew          yes
//   kMagazineHint   a hint pushed                                             yes
//   kMagazineItem   claimed, its items and count made from the slots' words   yes
//   kMagazineOwner  taken from the lane of nobody, as after a death           yes
//   kMagazineState  OWNED by the lane that names it, else taken and given     if no other is busy
//   kSlotUnlisted   put into a magazine with room                             yes
//   kSlotHolder     taken from a client that does not exist                   yes
//   kLaneOwner      freed                                                     yes
//   kLaneMap        the bit set                                               yes
//   kSlotState      put into a magazine with room                             no: it may be held
//   kLaneState      freed                                                     no: it may be used
//
// Only what an audit finds again and again is touched, each thing by a CAS from the word found.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/lane/lane_table.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/mend_magazines.hpp"
#include "mempool/shm/recovery/reclaim.hpp"
#include "mempool/shm/recovery/slot_pass.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// How many were mended, by Fault.
struct Repaired {
    std::array<std::uint64_t, kFaultCount> mended{};

    std::uint64_t& operator[](Fault fault) noexcept {
        return mended[static_cast<std::size_t>(fault)];
    }
    [[nodiscard]] std::uint64_t total() const noexcept {
        std::uint64_t sum = 0;
        for (const std::uint64_t count : mended) {
            sum += count;
        }
        return sum;
    }
};

namespace detail {

/// Makes a ring empty, in a lap that nobody is in. To be followed by rehint().
///
/// Linearizes: each cell by itself; the positions last.
/// Pairs:  a hint that is pushed or popped meanwhile may get lost: who pops has claimed its
///         magazine already, and what was pushed is hinted again by rehint(), for the word says so.
///         Whoever has the magazines never depends on a ring.
/// ABA:    who read a cell or a position before finds another lap there, so its CAS fails. Should
///         it succeed, 2^32 laps later, the ring gains or loses one hint.
/// Crash:  cells and positions contradict each other: the audit finds it, and it is done again.
inline void clear_ring(const Pool& pool, RingId ring) noexcept {
    RingState& state = pool.ring_state(ring);
    std::atomic<std::uint64_t>* cells = pool.ring_cells(ring);
    const std::uint32_t capacity = pool.geometry().ring_capacity;
    const int shift = std::countr_zero(capacity);
    const auto lap =
        static_cast<std::uint32_t>(state.tail.load(std::memory_order_relaxed) >> shift) + 2;
    for (std::uint32_t k = 0; k < capacity; ++k) {
        cells[k].store(std::uint64_t{lap} << 32U, std::memory_order_release);
    }
    const std::uint64_t start = std::uint64_t{lap} << shift;
    state.head.store(start, std::memory_order_release);
    state.tail.store(start, std::memory_order_release);
}

/// What stays the same throughout a repair.
template <typename Erase>
class Repairer {
public:
    /// `alone`: no client is attached. `erase` as in reclaim().
    Repairer(const Pool& pool, bool alone, Erase& erase) noexcept
        : pool_(pool), alone_(alone), erase_(erase) {}

    /// Mends `f` if that is possible; returns whether it did.
    ///
    /// Linearizes: the CAS from f.word, of a slot (R2), a magazine (T1).
    /// Pairs:  T1, R2 as in reclaim(). A slot FREE(m) that stands in none of m's items is found by
    ///         no get, so m's owner, if it has one, will not change its word: R2 does for I3.
    /// ABA:    a slot that was got and returned has another generation than f.word, a magazine that
    ///         was claimed another version.
    /// Crash:  as reclaim(): what is in the daemon's hands counts as a dead client's at the next
    ///         start; before the CAS nothing changed, so the next repair finds the same.
    bool mend(const Finding& f, DaemonDepot& depot, Filler& filler) {
        switch (f.fault) {
            case Fault::kRing:
                clear_ring(pool_, RingId{f.where});
                return true;
            case Fault::kSlotUnlisted:
                return take_slot(pool_, filler, SlotIndex{f.where}, SlotWord{f.word}, erase_);
            case Fault::kSlotState:
                return alone_ &&
                       take_slot(pool_, filler, SlotIndex{f.where}, SlotWord{f.word}, erase_);
            case Fault::kMagazineItem:
                return retake(depot, MagazineId{f.where}, MagazineWord{f.word});
            case Fault::kLaneState:
                if (alone_) {
                    free_lane(pool_, LaneId{f.where});
                }
                return alone_;
            default:
                return false;  // reclaim(), rehint() or the daemon's own tables mend these
        }
    }

private:
    bool retake(DaemonDepot& depot, MagazineId m, MagazineWord seen) noexcept {
        if (!depot.try_claim(m, seen)) {
            return false;
        }
        tidy_magazine(pool_, m);
        depot.give(m);
        return true;
    }

    const Pool& pool_;
    bool alone_;
    Erase& erase_;
};

/// Sets the bits of lanes in use that the map lacks; returns how many. A bit too many stays: it
/// costs a thief a look, and clearing it could undo a claim that is under way.
inline std::uint64_t mend_lane_map(const Pool& pool) noexcept {
    std::uint64_t missing = 0;
    for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool.geometry().lane_count; ++l) {
        const LaneWord word{pool.lane(LaneId{l}).word.load(std::memory_order_acquire)};
        const std::uint64_t bit = std::uint64_t{1} << (l % kLanesPerMapWord);
        if (word.state() == LaneState::kOwned &&
            (pool.lane_map(l / kLanesPerMapWord).fetch_or(bit, std::memory_order_relaxed) & bit) ==
                0) {
            ++missing;
        }
    }
    return missing;
}

}  // namespace detail

/// Whether all rings' positions and cells fit together.
[[nodiscard]] inline bool rings_fit(const Pool& pool) noexcept {
    bool fit = true;
    for_each_ring(pool, [&](RingId r) { fit = fit && detail::ring_fits(pool, r); });
    return fit;
}

/// Clears the rings that don't fit, then hints at all that no ring names. Returns how many hints
/// that were.
inline std::uint32_t mend_rings(const Pool& pool) {
    for_each_ring(pool, [&](RingId r) {
        if (!detail::ring_fits(pool, r)) {
            detail::clear_ring(pool, r);
        }
    });
    return rehint(pool);
}

/// Mends what can be mended of `pool`. `is_dead` and `erase` as in reclaim(), which is part of it;
/// `alone`: no client is attached, and none comes meanwhile. What an audit finds afterwards could
/// not be mended: it may be somebody's. Takes some passes of an audit; `looks`: as its rounds.
///
/// Idempotent, and each step by itself leaves the pool as sound as it was or sounder: cut off
/// anywhere and called again, by the next daemon too, it comes to the same end.
template <typename IsDead, typename Erase>
Repaired repair(const Pool& pool, IsDead&& is_dead, bool alone, Erase&& erase, int looks = 5) {
    constexpr int kRounds = 4;  // what was mended may show what it hid
    Repaired done;
    detail::Repairer repairer(pool, alone, erase);
    for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t before = done.total();
        const Reclaimed taken = reclaim(pool, is_dead, erase);
        done[Fault::kSlotHolder] += taken.slots;
        done[Fault::kMagazineOwner] += taken.magazines;
        done[Fault::kMagazineState] += taken.words;
        done[Fault::kLaneOwner] += taken.lanes;
        done[Fault::kMagazineHint] += taken.hints;
        done[Fault::kLaneMap] += detail::mend_lane_map(pool);
        const AuditResult found = audit(pool, looks);
        DaemonDepot depot(pool);
        detail::Filler filler(depot);
        for (const Finding& f : found.findings) {
            done[f.fault] += repairer.mend(f, depot, filler) ? 1U : 0U;
        }
        filler.flush();
        done[Fault::kMagazineHint] += rehint(pool);
        if (done.total() == before) {
            break;
        }
    }
    Depot(pool).wake(~std::uint64_t{0});
    return done;
}

}  // namespace mempool::shm
