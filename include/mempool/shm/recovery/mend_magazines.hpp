// Magazines after a death: their items, their words, their hints.
//
// Called by the daemon only, on one thread, while clients work. Part of a reclaim, a repair, and of
// what the daemon does each second.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/depot/hints.hpp"
#include "mempool/shm/depot/membarrier.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

namespace detail {

/// Keeps in magazine `m`, which the daemon's lane owns, the items whose word says FREE(m), each
/// once. Items beyond the count are looked at too: a put that died between its CAS and the count
/// left one there (I1).
inline void tidy_magazine(const Pool& pool, MagazineId m) noexcept {
    MagazineHead& magazine = pool.magazine(m);
    std::atomic<std::uint32_t>* items = Pool::items(magazine);
    const std::uint32_t limit = pool.index_limit();
    std::uint32_t kept = 0;
    for (std::uint32_t k = 0; k < pool.magazine_capacity(); ++k) {
        const std::uint32_t i = items[k].load(std::memory_order_relaxed);
        if (i >= limit ||
            !SlotWord{pool.word(SlotIndex{i}).load(std::memory_order_acquire)}.is_free_in(m)) {
            continue;
        }
        bool again = false;
        for (std::uint32_t j = 0; j < kept && !again; ++j) {
            again = items[j].load(std::memory_order_relaxed) == i;
        }
        if (!again) {
            items[kept++].store(i, std::memory_order_relaxed);
        }
    }
    magazine.count.store(kept, std::memory_order_release);
}

/// A magazine whose word makes no sense, or names a lane that cannot exist.
struct BadMagazine {
    MagazineId magazine{};
    MagazineWord seen;
};

/// Gives magazines of `bad` a word that makes sense; returns how many. One that a single live lane
/// names becomes OWNED by it again; one that no lane names is claimed, tidied and given to the
/// depot. Only while no other lane is in mid-operation: that could be a thief with the magazine in
/// its hands, which it does not name yet, while its victim still does. The others may be in use and
/// stay as they are.
/// Linearizes: the CAS of each word.
/// Pairs:  who has the magazine claimed it before its word went bad: while that stays so,
///         nobody claims it again. So its user's record names it, or that lane is busy. One that
///         gives it back now overwrites our word by G1, or makes our CAS fail.
/// ABA:    the CAS names the word as it was read.
/// Crash:  what the daemon took is OWNED(lane 0).
template <typename LaneIsDead>
std::uint32_t mend_words(DaemonDepot& depot, const std::vector<BadMagazine>& bad,
                         LaneIsDead&& lane_is_dead) {
    const Pool& pool = depot.pool();
    struct Use {
        std::uint32_t lane = 0;
        std::uint32_t lanes = 0;
        std::uint32_t busy = 0;
    };
    std::vector<Use> uses(pool.geometry().magazine_count);
    std::uint32_t busy = 0;
    barrier();  // a lane that has begun is seen busy
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool.geometry().lane_count; ++l) {
        if (lane_is_dead(LaneId{l})) {
            continue;
        }
        const LaneRecord& lane = pool.lane(LaneId{l});
        const std::uint32_t at_work = lane.busy.load(std::memory_order_acquire) != 0 ? 1U : 0U;
        busy += at_work;
        const std::uint32_t loaded = lane.loaded.load(std::memory_order_acquire);
        const std::uint32_t previous = lane.previous.load(std::memory_order_acquire);
        for (const std::uint32_t m : {loaded, previous == loaded ? 0 : previous}) {
            if (m != raw(kNoMagazine) && m < uses.size()) {
                uses[m] = {l, uses[m].lanes + 1, at_work};
            }
        }
    }
    std::uint32_t mended = 0;
    for (const BadMagazine& g : bad) {
        const Use& use = uses[raw(g.magazine)];
        MagazineWord seen = g.seen;
        if (use.lanes == 1 && busy == use.busy) {
            const MagazineWord owned = seen.next(MagazineState::kOwned, LaneId{use.lane});
            mended += pool.magazine(g.magazine)
                              .word.compare_exchange_strong(seen.bits, owned.bits,
                                                            std::memory_order_acq_rel,
                                                            std::memory_order_relaxed)
                          ? 1U
                          : 0U;
        } else if (use.lanes == 0 && busy == 0 && depot.try_claim(g.magazine, seen)) {
            tidy_magazine(pool, g.magazine);
            depot.give(g.magazine);
            ++mended;
        }
    }
    return mended;
}

}  // namespace detail

/// Pushes a hint for every FULL or EMPTY magazine that stands in no cell of such a ring. A hint too
/// many does no harm, so it needs no care about those who give and claim meanwhile.
inline std::uint32_t rehint(const Pool& pool) {
    DaemonDepot depot(pool);
    const Hints hints = find_hints(pool);
    std::uint32_t pushed = 0;
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const MagazineWord word{pool.magazine(MagazineId{m}).word.load(std::memory_order_relaxed)};
        if (hints.lack(MagazineId{m}, word) && depot.hint(MagazineId{m}, m)) {
            ++pushed;
        }
    }
    depot.wake(std::uint64_t{pushed} * pool.magazine_capacity());
    return pushed;
}

}  // namespace mempool::shm
