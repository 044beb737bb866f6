// Taking back what dead clients owned, and pushing hints that a death left out.
//
// Called by the daemon only, on one thread, while everybody else works. It reads words, and each of
// its steps is one CAS or the work of an owner, so it may be cut off anywhere and run again: what
// it has in its hands belongs to the daemon's own lane and client, which count as dead when a
// daemon starts, and at no other time.
//
// A pass over a large pool is done in pieces, with other work of the daemon in between, other
// passes over the same pool too. Between two pieces the daemon's lane owns nothing, and slots that
// are to be erased are HELD(client 0) and stand in the pass's list. Pieces change nothing in what
// makes a pass complete: after client c died no slot becomes HELD(c) or SHOWN(c) and no magazine
// OWNED by a lane of c, so one look at each word finds all there is (I5: c's id is free only after
// the last piece).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/lane/lane_table.hpp"
#include "mempool/shm/recovery/mend_magazines.hpp"
#include "mempool/shm/recovery/slot_pass.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// What one reclaim() did.
struct Reclaimed {
    std::uint64_t slots = 0;      ///< taken from holders
    std::uint32_t magazines = 0;  ///< taken from lanes
    std::uint32_t lanes = 0;      ///< freed
    std::uint32_t hints = 0;      ///< pushed because they were missing
    std::uint32_t words = 0;      ///< of magazines, that made no sense
};

/// A pass that takes back all that clients for which `is_dead(ClientId)` is true still own:
/// magazines, slots, lanes. Their ids may be given out again once it is done. If `is_dead` becomes
/// true for another client meanwhile, what is not looked at yet is taken from that one too. `batch`
/// as of SlotPass.
///
/// Linearizes: each slot at R2 (or R1, when it is erased first), each magazine at R0's CAS.
/// Pairs:  R0 acquire <- T1 release in try_claim(): a magazine seen OWNED(l) is judged by what
///         lane l's word says now or later, never by what it said before the claim.
/// ABA:    every CAS names a version or generation read before the judgement.
/// Crash:  of the daemon: what it took is OWNED(lane 0) or HELD(client 0), both dead at next start.
template <typename IsDead>
class Reclaim {
public:
    Reclaim(const Pool& pool, IsDead is_dead, std::size_t batch)
        : pool_(pool), is_dead_(std::forward<IsDead>(is_dead)), slots_(pool, Wanted{this}, batch) {}
    Reclaim(const Reclaim&) = delete;
    Reclaim& operator=(const Reclaim&) = delete;
    ~Reclaim() = default;

    /// Goes on for about `looks` words.
    PassStep step(std::size_t looks) {
        if (at_magazines_) {
            if (take_magazines(looks)) {
                return PassStep::kMore;
            }
            at_magazines_ = false;
        }
        const PassStep slots = slots_.step(looks);
        if (slots == PassStep::kDone) {
            free_lanes();
        }
        return slots;
    }
    [[nodiscard]] const std::vector<HeldSlot>& held() const noexcept { return slots_.held(); }
    void free_held() { slots_.free_held(); }

    /// What it has done; complete once step() said kDone.
    [[nodiscard]] const Reclaimed& result() const noexcept { return result_; }

private:
    struct Wanted {
        const Reclaim* reclaim;
        bool operator()(SlotIndex /*i*/, SlotWord seen) const {
            return seen.is_held() && reclaim->dead(seen.client());
        }
    };

    // An id that no client can have comes from no death: somebody wrote there, and may be using it.
    [[nodiscard]] bool dead(ClientId c) const {
        return raw(c) < pool_.geometry().shape.client_count && is_dead_(c);
    }
    // A lane that is FREE has no magazines: a word that still names it was left by a death. One
    // whose word makes no sense may be in use. The daemon's own lane is as dead as client 0.
    [[nodiscard]] bool lane_is_dead(LaneId l) const {
        if (l == kDaemonLane) {
            return dead(kDaemonClient);
        }
        const LaneWord word{pool_.lane(l).word.load(std::memory_order_acquire)};
        return word.state() == LaneState::kFree ||
               (word.state() == LaneState::kOwned && dead(word.client()));
    }

    // Returns whether there are more.
    bool take_magazines(std::size_t& looks) {
        DaemonDepot depot(pool_);
        for (const std::uint32_t limit = pool_.magazine_limit(); next_ < limit; ++next_) {
            if (looks == 0) {
                return true;
            }
            --looks;
            const MagazineId id{next_};
            const MagazineWord seen{pool_.magazine(id).word.load(std::memory_order_acquire)};  // R0
            if (seen.state() == MagazineState::kFull || seen.state() == MagazineState::kEmpty) {
                continue;
            }
            if (seen.state() != MagazineState::kOwned ||
                raw(seen.lane()) >= pool_.geometry().lane_count) {
                bad_.push_back({id, seen});
            } else if (lane_is_dead(seen.lane()) && depot.try_claim(id, seen)) {
                detail::tidy_magazine(pool_, id);
                depot.give(id);
                ++result_.magazines;
            }
        }
        if (!bad_.empty()) {
            result_.words =
                detail::mend_words(depot, bad_, [this](LaneId l) { return lane_is_dead(l); });
            bad_.clear();
        }
        return false;
    }

    void free_lanes() {
        for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool_.geometry().lane_count; ++l) {
            const LaneWord word{pool_.lane(LaneId{l}).word.load(std::memory_order_acquire)};
            if (word.state() == LaneState::kOwned && dead(word.client())) {
                free_lane(pool_, LaneId{l});
                ++result_.lanes;
            }
        }
        result_.hints = rehint(pool_);
        result_.slots = slots_.freed();
        pool_.live().reclaimed.fetch_add(result_.slots, std::memory_order_relaxed);
        // All of them: the dead may have taken a wake that was meant for another, or had slots in
        // their lanes.
        DaemonDepot(pool_).wake(~std::uint64_t{0});
    }

    Pool pool_;
    IsDead is_dead_;
    SlotPass<Wanted> slots_;
    Reclaimed result_;
    bool at_magazines_ = true;
    std::uint32_t next_ = 1;  // of the magazines
    std::vector<detail::BadMagazine> bad_;
};

/// A whole Reclaim at once. `erase(SlotIndex)` is called for each slot before it becomes free,
/// while the daemon holds it; pass nullptr to erase nothing.
template <typename IsDead, typename Erase>
Reclaimed reclaim(const Pool& pool, IsDead&& is_dead, Erase&& erase) {
    Reclaim<IsDead&> pass(pool, is_dead, detail::kBatch<Erase>);
    detail::finish_pass(pass, erase);
    return pass.result();
}

/// For a SlotPass: slots that are DETACHED and whose time is at most `not_after`, by the pool's
/// clock. One that was adopted and detached again since it was looked at has another generation.
struct DetachedSince {
    const Pool* pool;
    std::uint32_t not_after;
    bool operator()(SlotIndex i, SlotWord seen) const noexcept {
        return seen.state() == SlotState::kDetached &&
               pool->record(i).time.load(std::memory_order_relaxed) <= not_after;
    }
};

/// Frees, at once, the slots that DetachedSince describes; returns how many. `erase` as in
/// reclaim().
template <typename Erase>
std::uint64_t reclaim_detached(const Pool& pool, std::uint32_t not_after, Erase&& erase) {
    SlotPass<DetachedSince> pass(pool, DetachedSince{&pool, not_after}, detail::kBatch<Erase>);
    detail::finish_pass(pass, erase);
    return pass.freed();
}

}  // namespace mempool::shm
