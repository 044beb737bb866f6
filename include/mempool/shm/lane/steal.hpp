// Taking a magazine with slots away from a lane that is not in the middle of an operation.
//
// Called by a lane that finds the depot empty, so that slots idle in the lane of a thread that
// sleeps, or of a process that is stopped, do not make the pool look exhausted. The victim's fast
// path pays a plain store and a load for it, no fence:
//
//   victim   B1 busy = 1 ; B2 revoked? ; its plain stores ; B3 busy = 0 (release)
//            if revoked:  V1 revoked = 0 ; V2 full fence ; V3 CAS each of its magazines' words one
//                         version on ; what V3 fails on is lost to a thief
//   thief    S1 read the victim's magazines and their words ; S2 revoked = 1 ; S3 barrier on all
//            processors ; S4 busy == 0? ; S5 CAS the magazine's word, as read at S1, to its own
//
// Either the victim's B2 sees S2, or S4 sees its B1: S3 stands between S2 and S4, and makes the
// victim's B1 visible if its B2 came before. Seen idle at S4, all stores of its last operation are
// visible too (B3 release, S4 acquire), and its next begins with V1..V3. There S5 and V3 are two
// CASes on one word, and one wins. V1 comes before V3: a thief that read a word before V3 fails at
// S5; one that read it after has its S2 after V1, so the victim's next operation finds it.
//
// So several thieves, and one that died or was stopped anywhere, are harmless, and nobody waits
// for anybody. A victim stopped between B1 and B3 keeps its two magazines; nothing else is out of
// reach. tests/model/steal.pml is this as a model.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "mempool/shm/depot/depot.hpp"
#include "mempool/shm/depot/membarrier.hpp"
#include "mempool/shm/lane/lane_table.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// What one look for a victim came to.
struct Loot {
    MagazineId magazine = kNoMagazine;  ///< now the thief's, with slots
    bool stolen = false;                ///< and no hint was removed for it: to be counted
    bool others_busy = false;           ///< a lane with slots was in mid-operation: look again
};

namespace detail {

struct Victim {
    LaneId lane{};
    MagazineId magazine = kNoMagazine;
    MagazineWord word;
};

/// S1: a magazine of lane `l` that has slots, the one less in use first.
inline Victim find_victim(const Depot& depot, LaneId l) noexcept {
    const Pool& pool = depot.pool();
    const LaneRecord& lane = pool.lane(l);
    for (const std::atomic<std::uint32_t>* place : {&lane.previous, &lane.loaded}) {
        const MagazineId m{place->load(std::memory_order_acquire)};
        if (!pool.has_magazine(m)) {
            continue;
        }
        const MagazineWord word{pool.magazine(m).word.load(std::memory_order_acquire)};
        if (word.state() == MagazineState::kOwned && word.lane() == l && depot.count(m) != 0) {
            return {l, m, word};
        }
    }
    return {};
}

/// S2 to S5 for all of `victims`, with one barrier: the first that is idle and has slots.
template <std::size_t Most>
Loot strike(Depot& depot, LaneId me, const std::array<Victim, Most>& victims,
            std::size_t count) noexcept {
    const Pool& pool = depot.pool();
    for (std::size_t k = 0; k < count; ++k) {
        pool.lane(victims[k].lane).revoked.fetch_or(kRevoked, std::memory_order_seq_cst);  // S2
    }
    depot.begin_work();                                   // X0
    const bool reaches_all = barrier();                   // S3
    std::atomic_thread_fence(std::memory_order_seq_cst);  // S3, for lanes that fence themselves
    Loot loot;
    for (std::size_t k = 0; k < count; ++k) {
        const LaneRecord& lane = pool.lane(victims[k].lane);
        if (!reaches_all && (lane.revoked.load(std::memory_order_relaxed) & kFenced) == 0) {
            continue;
        }
        if (lane.busy.load(std::memory_order_acquire) != 0) {  // S4
            loot.others_busy = true;
            continue;
        }
        if (!depot.try_claim(victims[k].magazine, victims[k].word, me)) {  // S5
            loot.others_busy = true;
            continue;
        }
        if (depot.count(victims[k].magazine) != 0) {
            loot.magazine = victims[k].magazine;
            loot.stolen = true;
            break;
        }
        depot.give(victims[k].magazine);  // emptied since S1
    }
    return loot;
}

}  // namespace detail

/// Takes a magazine with slots from any lane but `me`, for `me`, which is in a busy section of its
/// own. Any process; O(lanes in use) and at most a barrier for each 8 of them.
/// Linearizes: S5 (T1).
/// Pairs:  S4 acquire <- B3 release: count, items and words as the victim left them.
///         S2, S3, S4 against B1, B2: see above.
/// ABA:    S5 names the version read at S1, before S2.
/// Crash:  before S5 the victim has a slow operation ahead, and nothing else changed; after it the
///         magazine's word names the thief's lane, so reclaim finds it.
inline Loot steal(Depot& depot, LaneId me) noexcept {
    constexpr std::size_t kMostVictims = 8;
    std::array<detail::Victim, kMostVictims> victims;
    std::size_t count = 0;
    std::size_t batch = 1;  // grows, so that few are disturbed where one is enough
    Loot loot;
    const auto strike = [&] {
        const bool busy = loot.others_busy;
        loot = detail::strike(depot, me, victims, count);
        loot.others_busy |= busy;
        count = 0;
        batch = batch < kMostVictims ? batch * 2 : kMostVictims;
        return loot.magazine == kNoMagazine;
    };
    visit_lanes(depot.pool(), me, [&](LaneId l) {
        if (l == me) {
            return true;
        }
        victims[count] = detail::find_victim(depot, l);
        count += victims[count].magazine != kNoMagazine ? 1U : 0U;
        return count < batch || strike();
    });
    if (count != 0 && loot.magazine == kNoMagazine) {
        strike();
    }
    return loot;
}

}  // namespace mempool::shm
