// Taking back what dead clients owned, and pushing hints that a death left out.
//
// Called by the daemon only, one call at a time a pool, beside live traffic of everybody else.
// It reads words, and each of its steps is one CAS or the work of an owner, so it may be cut off
// anywhere and run again: what it has in its hands belongs to the daemon's own lane and client,
// which count as dead when a daemon starts.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "mempool/shm/daemon_depot.hpp"
#include "mempool/shm/lane_table.hpp"
#include "mempool/shm/layout.hpp"
#include "mempool/shm/membarrier.hpp"
#include "mempool/shm/pool.hpp"

namespace mempool::shm {

/// What one reclaim() did.
struct Reclaimed {
    std::uint64_t slots = 0;      ///< taken from holders
    std::uint32_t magazines = 0;  ///< taken from lanes
    std::uint32_t lanes = 0;      ///< freed
    std::uint32_t hints = 0;      ///< pushed because they were missing
    std::uint32_t words = 0;      ///< of magazines, that made no sense
};

namespace detail {

/// Puts slots into magazines of the daemon's lane, and these into the depot when they are full.
class Filler {
public:
    explicit Filler(DaemonDepot& depot) noexcept : depot_(depot) {}
    Filler(const Filler&) = delete;
    Filler& operator=(const Filler&) = delete;
    ~Filler() { flush(); }

    /// Frees slot `i` if its word still is `seen`. The generation grows, so that handles of the
    /// former holder are stale (I2). False if the word changed, or no magazine has room.
    /// Linearizes: R2.
    /// Pairs:  R2 release -> C0 acquire in get().
    /// ABA:    R2 names the generation.
    /// Crash:  as Lane::put(): the index is in items[count] before R2.
    bool put(SlotIndex i, SlotWord seen) noexcept {
        const Pool& pool = depot_.pool();
        if (magazine_ == kNoMagazine || count_ >= pool.magazine_capacity()) {
            flush();
            magazine_ = depot_.claim_room();
            if (magazine_ == kNoMagazine) {
                return false;
            }
            count_ = depot_.count(magazine_);
            if (count_ >= pool.magazine_capacity()) {  // written over since it was looked at
                flush();
                return false;
            }
        }
        MagazineHead& magazine = pool.magazine(magazine_);
        Pool::items(magazine)[count_].store(raw(i), std::memory_order_relaxed);
        const SlotWord freed = SlotWord::free(next(seen.generation()), magazine_);
        if (!pool.word(i).compare_exchange_strong(seen.bits, freed.bits,  // R2
                                                  std::memory_order_acq_rel,
                                                  std::memory_order_relaxed)) {
            return false;
        }
        pool.record(i).tag.store(0, std::memory_order_relaxed);  // the former holder's
        magazine.count.store(++count_, std::memory_order_release);
        return true;
    }

    void flush() noexcept {
        if (magazine_ != kNoMagazine) {
            depot_.give(magazine_);
            magazine_ = kNoMagazine;
        }
    }

private:
    DaemonDepot& depot_;
    MagazineId magazine_ = kNoMagazine;
    std::uint32_t count_ = 0;
};

/// Frees slot `i` if its word still is `seen`, through the daemon's own hands if it is to be erased
/// first: `erase(SlotIndex)`, or nullptr. Whether it did.
/// Linearizes: R2 (or R1, when it is erased).
/// ABA:    both name the generation.
/// Crash:  behind R1 the slot is HELD(client 0), which counts as dead when a daemon starts.
template <typename Erase>
bool take_slot(const Pool& pool, Filler& filler, SlotIndex i, SlotWord seen, Erase& erase) {
    if constexpr (!std::is_same_v<std::decay_t<Erase>, std::nullptr_t>) {
        const SlotWord mine = SlotWord::held(next(seen.generation()), kDaemonClient);
        if (!pool.word(i).compare_exchange_strong(seen.bits, mine.bits,  // R1
                                                  std::memory_order_acq_rel,
                                                  std::memory_order_relaxed)) {
            return false;
        }
        erase(i);
        seen = mine;
    }
    return filler.put(i, seen);
}

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

/// A magazine whose word makes no sense, or names a lane that can't be.
struct Garbled {
    MagazineId magazine{};
    MagazineWord seen;
};

/// Gives magazines of `garbled` a word that makes sense; how many. Only while no other lane is in
/// mid-operation, which could have one of them in its hands and not name it yet: a lane goes on
/// naming what was stolen from it. The one that a single live lane names then becomes OWNED by it
/// again, and one that no lane names is the daemon's to tidy and give. The others may be in use:
/// they stay as they are.
/// Linearizes: the CAS of each word.
/// Pairs:  who has the magazine claimed it before its word was `garbled`: while that stays so,
///         nobody claims it again. So its user's record names it, or that lane is busy. One that
///         gives it back now overwrites our word by G1, or makes our CAS fail.
/// ABA:    the CAS names the word as it was read.
/// Crash:  what the daemon took is OWNED(lane 0).
template <typename LaneIsDead>
std::uint32_t mend_words(DaemonDepot& depot, const std::vector<Garbled>& garbled,
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
    for (const Garbled& g : garbled) {
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

/// Pushes a hint for every FULL or EMPTY magazine that stands in no cell of its ring. A hint too
/// many does no harm, so it needs no care about those who give and claim meanwhile.
inline std::uint32_t rehint(const Pool& pool) {
    DaemonDepot depot(pool);
    std::vector<bool> hinted_full(pool.geometry().magazine_count);
    std::vector<bool> hinted_empty(pool.geometry().magazine_count);
    const auto mark = [](const Ring& ring, std::vector<bool>& hinted) {
        for (std::uint32_t k = 0; k < ring.capacity(); ++k) {
            const std::uint32_t m = raw(ring.cell(k));
            if (m < hinted.size()) {
                hinted[m] = true;
            }
        }
    };
    mark(depot.full_ring(), hinted_full);
    mark(depot.empty_ring(), hinted_empty);
    std::uint32_t pushed = 0;
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const MagazineWord word{pool.magazine(MagazineId{m}).word.load(std::memory_order_relaxed)};
        const bool missing = (word.state() == MagazineState::kFull && !hinted_full[m]) ||
                             (word.state() == MagazineState::kEmpty && !hinted_empty[m]);
        if (missing && depot.hint(MagazineId{m})) {
            ++pushed;
        }
    }
    depot.wake(std::uint64_t{pushed} * pool.magazine_capacity());
    return pushed;
}

/// Takes back all that clients for which `is_dead(ClientId)` is true still own: magazines, slots,
/// lanes. Their ids may be given out again once it has returned. `erase(SlotIndex)` is called for
/// each slot before it becomes free, while the daemon holds it; pass nullptr to erase nothing.
///
/// Linearizes: each slot at R2 (or R1, when it is erased first), each magazine at R0's CAS.
/// Pairs:  R0 acquire <- T1 release in try_claim(): a magazine seen OWNED(l) is judged by what
///         lane l's word says now or later, never by what it said before the claim.
/// ABA:    every CAS names a version or generation read before the judgement.
/// Crash:  of the daemon: what it took is OWNED(lane 0) or HELD(client 0), both dead at next start.
template <typename IsDead, typename Erase>
Reclaimed reclaim(const Pool& pool, IsDead&& is_dead, Erase&& erase) {
    Reclaimed result;
    DaemonDepot depot(pool);
    const std::uint32_t client_count = pool.geometry().shape.client_count;
    // An id that can't be comes from no death: somebody wrote there, and may be using it.
    const auto dead = [&](ClientId c) { return raw(c) < client_count && is_dead(c); };
    // A lane nobody owns has no magazines: what still names it was left by a death in between. One
    // whose word makes no sense may be at work.
    const auto lane_is_dead = [&](LaneId l) {
        if (raw(l) >= pool.geometry().lane_count || l == kDaemonLane) {
            return true;
        }
        const LaneWord word{pool.lane(l).word.load(std::memory_order_acquire)};
        return word.state() == LaneState::kFree ||
               (word.state() == LaneState::kOwned && dead(word.client()));
    };

    std::vector<detail::Garbled> garbled;
    const std::uint32_t magazines = pool.magazine_limit();
    for (std::uint32_t m = 1; m < magazines; ++m) {
        const MagazineId id{m};
        const MagazineWord seen{pool.magazine(id).word.load(std::memory_order_acquire)};  // R0
        if (seen.state() == MagazineState::kFull || seen.state() == MagazineState::kEmpty) {
            continue;
        }
        if (seen.state() != MagazineState::kOwned ||
            raw(seen.lane()) >= pool.geometry().lane_count) {
            garbled.push_back({id, seen});
        } else if (lane_is_dead(seen.lane()) && depot.try_claim(id, seen)) {
            detail::tidy_magazine(pool, id);
            depot.give(id);
            ++result.magazines;
        }
    }
    if (!garbled.empty()) {
        result.words = detail::mend_words(depot, garbled, lane_is_dead);
    }

    detail::Filler filler(depot);
    for_each_slot(pool, [&](SlotIndex index) {
        const SlotWord seen{pool.word(index).load(std::memory_order_acquire)};
        if (seen.state() == SlotState::kHeld && dead(seen.client()) &&
            detail::take_slot(pool, filler, index, seen, erase)) {
            ++result.slots;
        }
    });
    filler.flush();

    for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool.geometry().lane_count; ++l) {
        const LaneWord word{pool.lane(LaneId{l}).word.load(std::memory_order_acquire)};
        if (word.state() == LaneState::kOwned && dead(word.client())) {
            free_lane(pool, LaneId{l});
            ++result.lanes;
        }
    }
    result.hints = rehint(pool);
    pool.live().reclaimed.fetch_add(result.slots, std::memory_order_relaxed);
    // All of them: who died may have had a wake meant for another, or slots in its lanes.
    depot.wake(~std::uint64_t{0});
    return result;
}

/// Frees slots that are DETACHED and whose time is at most `not_after`, of the pool's clock;
/// how many. `erase` as in reclaim().
///
/// Linearizes: each slot at R2 (or R1, when it is erased first).
/// Pairs:  R3 acquire <- D1 release in detach(): the time read is the one stamped before D1.
/// ABA:    R1 and R2 name the generation, so a slot that was returned and got again, or adopted
///         and detached again, is left alone. In pools without kBoundary the latter is freed early.
/// Crash:  as reclaim().
template <typename Erase>
std::uint64_t reclaim_detached(const Pool& pool, std::uint32_t not_after, Erase&& erase) {
    std::uint64_t freed = 0;
    DaemonDepot depot(pool);
    detail::Filler filler(depot);
    for_each_slot(pool, [&](SlotIndex index) {
        const SlotWord seen{pool.word(index).load(std::memory_order_acquire)};  // R3
        if (seen.state() == SlotState::kDetached &&
            pool.record(index).time.load(std::memory_order_relaxed) <= not_after &&
            detail::take_slot(pool, filler, index, seen, erase)) {
            ++freed;
        }
    });
    filler.flush();
    depot.wake(freed);
    return freed;
}

}  // namespace mempool::shm
