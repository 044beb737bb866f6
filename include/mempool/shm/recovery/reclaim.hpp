// Taking back what dead clients owned, and pushing hints that a death left out.
//
// Called by the daemon only, on one thread, while everybody else works. It reads words,
// and each of its steps is one CAS or the work of an owner, so it may be cut off anywhere and run
// again: what it has in its hands belongs to the daemon's own lane and client, which count as dead
// when a daemon starts, and at no other time.
//
// A pass over a large pool is done in pieces, with other work of the daemon in between, other
// passes over the same pool too. Between two pieces the daemon's lane owns nothing, and slots that
// are to be erased are HELD(client 0) and stand in the pass's list. Pieces change nothing in what
// makes a pass complete: after client c died no slot becomes HELD(c) or SHOWN(c) and no magazine
// OWNED by a lane of c, so one look at each word finds all there is (I5: c's id is free only after
// the last piece).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/depot/hints.hpp"
#include "mempool/shm/depot/membarrier.hpp"
#include "mempool/shm/lane/lane_table.hpp"
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

/// Takes slot `i` into the daemon's hands, to be erased, if its word still is `seen`. Returns the
/// word it has then.
/// Linearizes: R1.
/// ABA:    R1 names the generation.
/// Crash:  after R1 the slot is HELD(client 0), which counts as dead when a daemon starts.
inline std::optional<SlotWord> hold_slot(const Pool& pool, SlotIndex i, SlotWord seen) noexcept {
    const SlotWord mine = SlotWord::held(next(seen.generation()), kDaemonClient);
    if (!pool.word(i).compare_exchange_strong(seen.bits, mine.bits,  // R1
                                              std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {
        return std::nullopt;
    }
    return mine;
}

/// Frees slot `i` if its word still is `seen`, through the daemon's own hands if it is to be erased
/// first: `erase(SlotIndex)`, or nullptr. Returns whether it did.
/// Linearizes: R2 (or R1, when it is erased).
/// ABA, Crash: as hold_slot() and Filler::put().
template <typename Erase>
bool take_slot(const Pool& pool, Filler& filler, SlotIndex i, SlotWord seen, Erase& erase) {
    if constexpr (!std::is_same_v<std::decay_t<Erase>, std::nullptr_t>) {
        const auto mine = hold_slot(pool, i, seen);
        if (!mine) {
            return false;
        }
        erase(i);
        seen = *mine;
    }
    return filler.put(i, seen);
}

/// A walk over all slots that is done in pieces: where it stands.
class SlotWalk {
public:
    /// Calls `visit(SlotIndex)` for the next slots, as for_each_slot() would, until it returns
    /// false or `looks`, which it counts down, is zero. False once there are no more slots.
    template <typename Visit>
    bool go_on(const Pool& pool, std::size_t& looks, Visit&& visit) {
        for (; segment_ < pool.segment_count(); ++segment_) {
            const SegmentEntry entry = pool.read_segment(segment_);
            const std::uint32_t end = std::min(entry.end_index(), pool.geometry().index_capacity);
            next_ = std::max(next_, entry.first_index);
            while (next_ < end) {
                if (looks == 0) {
                    return true;
                }
                --looks;
                if (!visit(SlotIndex{next_++})) {
                    return true;
                }
            }
        }
        return false;
    }

private:
    std::uint32_t segment_ = 0;
    std::uint32_t next_ = 0;
};

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

/// What a piece of a pass came to.
enum class PassStep : std::uint8_t {
    kMore,   ///< step() is to be called again
    kErase,  ///< held() is to be erased, then freed by free_held(), then step() called again
    kDone,
};

/// A slot in the daemon's hands, HELD(client 0) as long as nobody writes over its word.
struct HeldSlot {
    SlotIndex index{};
    SlotWord word;
};

/// A pass over all slots that takes back those for which `wanted(SlotIndex, SlotWord)` is true.
/// With a `batch`, it holds up to that many at a time for its caller to erase; 0: nothing is
/// erased.
///
/// Linearizes: each slot at R2 (or R1, when it is erased first).
/// Pairs:  R3 acquire <- C1, A1, D1 release: the time read is the one stamped before.
/// ABA:    R1 and R2 name the generation, so a slot that was returned and got again is left alone.
/// Crash:  of the daemon: what it took is HELD(client 0), dead at the next start, or in
///         items[count] as a put.
template <typename Wanted>
class SlotPass {
public:
    SlotPass(const Pool& pool, Wanted wanted, std::size_t batch)
        : pool_(pool), wanted_(std::move(wanted)), batch_(batch) {
        held_.reserve(batch);  // so that no push_back() after R1 can fail
    }
    SlotPass(const SlotPass&) = delete;
    SlotPass& operator=(const SlotPass&) = delete;
    ~SlotPass() = default;

    /// Goes on for about `looks` slots.
    PassStep step(std::size_t looks) {
        DaemonDepot depot(pool_);
        detail::Filler filler(depot);
        const std::uint64_t before = freed_;
        const bool more = walk_.go_on(pool_, looks, [&](SlotIndex i) {
            const SlotWord seen{pool_.word(i).load(std::memory_order_acquire)};  // R3
            if (wanted_(i, seen)) {
                take(filler, i, seen);
            }
            return batch_ == 0 || held_.size() < batch_;
        });
        filler.flush();
        depot.wake(freed_ - before);
        if (!held_.empty() && (!more || held_.size() >= batch_)) {
            return PassStep::kErase;
        }
        return more ? PassStep::kMore : PassStep::kDone;
    }

    /// What the daemon holds now.
    [[nodiscard]] const std::vector<HeldSlot>& held() const noexcept { return held_; }
    /// Frees all that it holds.
    void free_held() {
        DaemonDepot depot(pool_);
        detail::Filler filler(depot);
        const std::uint64_t before = freed_;
        for (const HeldSlot& slot : held_) {
            freed_ += filler.put(slot.index, slot.word) ? 1U : 0U;
        }
        held_.clear();
        filler.flush();
        depot.wake(freed_ - before);
    }

    /// Slots freed so far.
    [[nodiscard]] std::uint64_t freed() const noexcept { return freed_; }

private:
    void take(detail::Filler& filler, SlotIndex i, SlotWord seen) {
        if (batch_ == 0) {
            freed_ += filler.put(i, seen) ? 1U : 0U;
        } else if (const auto mine = detail::hold_slot(pool_, i, seen)) {
            held_.push_back({i, *mine});
        }
    }

    Pool pool_;
    Wanted wanted_;
    std::size_t batch_;
    detail::SlotWalk walk_;
    std::vector<HeldSlot> held_;
    std::uint64_t freed_ = 0;
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

namespace detail {

/// Does the whole of `pass` at once; `erase(SlotIndex)` for each slot it holds, or nullptr.
template <typename Pass, typename Erase>
void finish_pass(Pass& pass, Erase& erase) {
    constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
    for (PassStep step = pass.step(kAll); step != PassStep::kDone; step = pass.step(kAll)) {
        if constexpr (!std::is_same_v<std::decay_t<Erase>, std::nullptr_t>) {
            for (const HeldSlot& slot : pass.held()) {
                erase(slot.index);
            }
        }
        pass.free_held();
    }
}

/// How many slots a pass may hold that is done at once.
template <typename Erase>
constexpr std::size_t kBatch = std::is_same_v<std::decay_t<Erase>, std::nullptr_t> ? 0 : 256;

}  // namespace detail

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
