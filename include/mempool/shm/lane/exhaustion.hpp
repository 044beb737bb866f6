// When a get may say that the pool is exhausted: nothing was anywhere, and nothing moved meanwhile.
//
// Slots move while a lane looks for them: from where it has yet to look to where it has looked. So
// a look that found nothing counts only if nothing moved while it lasted:
//
//   searcher  X1 all rings' positions, and all lanes with their puts and steals ; then, is another
//                lane at work?
//             X2 every ring ; X3 every lane (S1 to S5) ; X4 every ring again
//             X5 is another lane at work? ; X6 what X1 read, again: the same?
//   others    B1 busy = 1 ; a put ; its counter + 1 ; B3 busy = 0
//             X0 busy = 1 ; a claim ; the hint removed, or a counter + 1 ; load() ; B3 busy = 0
//
// If nobody was seen at work and X6 says the same, no put, claim or steal fell between X1 and X5,
// not even in part: each changes a count between its B1 and its B3, so one that X1 counted and that
// was not over was seen at work, and so was one that X6 has yet to count. So a slot that is free at
// X4 is where it was at X1: named by a hint, which X2 or X4 sees, or in the magazine of a lane,
// whose count only gets have lowered since, so that X3 has tried to take it. It found nothing to
// take: at X4 no slot was free. tests/model/exhausted.pml is this as a model. Gets are not counted:
// they take slots away and bring none.
//
// A lane that searches is not at work: else those who find the pool exhausted would keep each other
// from saying so. It says kAtWork before it takes anything (X0), in the order of all stores.
//
// What the daemon has in its hands is not free: it brings it back by a hint. Nor is a magazine that
// lost its hint by a death: the daemon's rehint() finds it, and where no daemon runs, fruitless
// searches look through the words of all magazines, some at a time.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/depot/depot.hpp"
#include "mempool/shm/lane/lane_table.hpp"
#include "mempool/shm/lane/steal.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

namespace detail {

/// What all lanes but one, and all rings, have moved so far.
struct Movement {
    std::uint64_t positions = 0;  ///< of all rings, which only grow
    std::uint64_t lanes = 0;      ///< a hash: which lanes there are, and what they have counted
    bool at_work = false;         ///< a lane is in the middle of it

    [[nodiscard]] bool is_as(const Movement& other) const noexcept {
        return positions == other.positions && lanes == other.lanes;
    }
};

enum class Moment : std::uint8_t { kBefore, kAfter };

/// X1, or X5 and X6. Before the search `busy` is read after the counts, and after the search before
/// them.
/// Pairs:  the acquire of each load keeps them in that order. Of `busy` <- B3 release: what a lane
///         counted before it is in the sum. Of a counter <- its own release, or TSO: who sees it
///         sees B1, or what came after it.
inline Movement movement(const Depot& depot, LaneId me, Moment moment) noexcept {
    const Pool& pool = depot.pool();
    Movement all;
    if (moment == Moment::kBefore) {
        all.positions = depot.activity();
    }
    visit_lanes(pool, me, [&](LaneId l) {
        if (l == me) {
            return true;
        }
        const LaneRecord& lane = pool.lane(l);
        const auto count = [&] {
            all.lanes = fold(all.lanes, lane.word.load(std::memory_order_acquire));
            all.lanes = fold(all.lanes, lane.puts.load(std::memory_order_acquire));
            all.lanes = fold(all.lanes, lane.steals.load(std::memory_order_acquire));
        };
        if (moment == Moment::kBefore) {
            count();
        }
        all.at_work |= lane.busy.load(std::memory_order_acquire) == kAtWork;
        if (moment == Moment::kAfter) {
            count();
        }
        return true;
    });
    if (moment == Moment::kAfter) {
        all.positions = depot.activity();
    }
    return all;
}

}  // namespace detail

/// Looks for a magazine with slots everywhere, for lane `me`, which is in a busy section of its
/// own; with neither a magazine nor others at work the pool is exhausted.
/// Linearizes: T1 of the claim; for an exhausted pool X4.
/// Pairs:  see above.
/// ABA:    counters, positions and the versions of lanes only grow. Positions are a sum of their
///         own, and lanes a hash, so a lane that leaves can't make up for what others moved.
/// Crash:  before T1 nothing changed; after it the magazine's word names the lane.
inline Loot search(Depot& depot, LaneId me) noexcept {
    const detail::Movement before = detail::movement(depot, me, detail::Moment::kBefore);  // X1
    Loot loot;
    loot.magazine = depot.claim_full(me);  // X2
    if (loot.magazine != kNoMagazine) {
        return loot;
    }
    loot = steal(depot, me);  // X3
    if (loot.magazine != kNoMagazine || loot.others_busy) {
        return loot;
    }
    loot.magazine = depot.claim_full(me);  // X4
    if (loot.magazine != kNoMagazine) {
        return loot;
    }
    const detail::Movement after = detail::movement(depot, me, detail::Moment::kAfter);  // X5, X6
    loot.others_busy = before.at_work || after.at_work || !after.is_as(before);
    if (!loot.others_busy) {
        loot.magazine = depot.claim_unnamed(me);
        loot.stolen = loot.magazine != kNoMagazine;
    }
    return loot;
}

}  // namespace mempool::shm
