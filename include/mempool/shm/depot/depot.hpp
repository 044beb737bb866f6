// The depot: where lanes get magazines from and give them to.
//
// Used by clients' lanes and by the daemon. Each shard has two rings of hints, one for magazines
// with slots and one for empty ones; a magazine's own word says whose it is. Makes no system call
// except in wake().
//
// A lane gives to its own shard, or to the next that has room in its ring. It takes from its own,
// else from where it found the last one, else from any, in an order that differs from lane to lane.
// So lanes that only get soon know the shards of lanes that only put, and most lanes meet nobody.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/depot/futex.hpp"
#include "mempool/shm/depot/ring.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// A view of a pool's depot for one whose own shard is `home`. Copyable; lock-free; one thread at a
/// time, of any process that maps the pool.
class Depot {
public:
    /// `busy`: that member of the lane's record, if a lane takes magazines by this view.
    explicit Depot(const Pool& pool, std::uint32_t home = 0,
                   std::atomic<std::uint32_t>* busy = nullptr) noexcept
        : pool_(pool),
          mask_(pool.shard_count() - 1),
          home_(home & mask_),
          last_full_(home_),
          last_empty_(home_),
          busy_(busy) {}

    /// Marks the lane as at work, before anything is claimed.
    /// Linearizes: X0, see exhaustion.hpp.
    /// Pairs:  X0 before T1 in the order of stores, as T1 releases: who sees what was claimed sees
    ///         the lane at work, or what it did then.
    void begin_work() noexcept {
        if (busy_ != nullptr) {
            busy_->store(kAtWork, std::memory_order_relaxed);  // X0
        }
    }

    /// Claims a magazine with slots for `lane`; kNoMagazine if no ring has a hint to one.
    [[nodiscard]] MagazineId claim_full(LaneId lane) noexcept {
        return claim_near(&full_ring, last_full_, lane);
    }

    /// Claims a magazine with room for `lane`: an empty one, else one that is not full.
    /// kNoMagazine only where foreign bytes broke the pool: the lanes' own magazines and those for
    /// all slots exist, so while no lane has more than three, one in the depot has room.
    [[nodiscard]] MagazineId claim_room(LaneId lane) noexcept {
        // Rings of both kinds in every round: what had no slots a moment ago may have some now, and
        // the reverse. At most twice as many tries as there are magazines.
        constexpr std::uint32_t kRounds = 1024;
        std::uint64_t tries = 2 * std::uint64_t{pool_.magazine_limit()};
        for (std::uint32_t round = 0; round < kRounds && tries != 0; ++round) {
            const MagazineId m = claim_near(&empty_ring, last_empty_, lane);
            if (m == kNoMagazine) {
                const MagazineId partly_filled = claim_partly_filled(lane, tries);
                if (partly_filled != kNoMagazine) {
                    return partly_filled;
                }
            } else if (count(m) < pool_.magazine_capacity()) {  // else foreign bytes
                return m;
            } else {
                give(m);
            }
        }
        return kNoMagazine;
    }

    /// Claims a magazine that is FULL by its word, though no ring may name it, if one is among the
    /// next few: each call goes on where the last one ended.
    [[nodiscard]] MagazineId claim_unnamed(LaneId lane) noexcept {
        constexpr std::uint32_t kLooks = 256;
        const std::uint32_t limit = pool_.magazine_limit();
        for (std::uint32_t k = 0; k < kLooks && k + 1 < limit; ++k) {
            next_look_ = next_look_ + 1 < limit ? next_look_ + 1 : 1;
            const MagazineId m{next_look_};
            const MagazineWord seen{pool_.magazine(m).word.load(std::memory_order_relaxed)};
            if (seen.state() == MagazineState::kFull) {
                begin_work();
                if (try_claim(m, seen, lane)) {
                    return m;
                }
            }
        }
        return kNoMagazine;
    }

    /// Gives magazine `m`, which the caller owns, to the depot: the word first, then the hint.
    /// Linearizes: G1.
    /// Pairs:  G1 release -> T1 acquire in try_claim(): count, items and FREE words of the giver.
    /// ABA:    only the owner leaves OWNED, so a plain store is enough; the version still grows.
    /// Crash:  before G1 the magazine is the dead lane's; between G1 and the push it has no hint,
    ///         which rehint() mends (nothing is lost, it is FULL or EMPTY by its word).
    void give(MagazineId m) noexcept { push(give_word(m), m, home_); }

    /// Claims `m` for `lane` if its word still is `seen`.
    /// Linearizes: T1.
    /// Pairs:  T1 acquire <- G1 release: everything the giver wrote into the magazine is ours.
    ///         T1 release -> R0 acquire in reclaim(): who sees OWNED(l) sees that lane l is
    ///         claimed.
    /// ABA:    the word's version grows at every change; confusion needs 2^31 claims meanwhile.
    /// Crash:  before T1 nothing changed; after it the word names our lane, so reclaim finds it.
    bool try_claim(MagazineId m, MagazineWord seen, LaneId lane) noexcept {
        return pool_.magazine(m).word.compare_exchange_strong(  // T1
            seen.bits, seen.next(MagazineState::kOwned, lane).bits, std::memory_order_acq_rel,
            std::memory_order_relaxed);
    }

    /// Items of magazine `m`, at most its capacity whatever stands there.
    [[nodiscard]] std::uint32_t count(MagazineId m) const noexcept {
        const std::uint32_t stored = pool_.magazine(m).count.load(std::memory_order_acquire);
        return stored < pool_.magazine_capacity() ? stored : pool_.magazine_capacity();
    }

    [[nodiscard]] const Pool& pool() const noexcept { return pool_; }
    /// A figure that changes whenever a hint comes or goes, in any ring.
    [[nodiscard]] std::uint64_t activity() const noexcept {
        std::uint64_t sum = 0;
        for_each_ring(pool_, [&](RingId r) { sum += Ring(pool_, r).activity(); });
        return sum;
    }

    /// Wakes up to `slots` of those who sleep in get_for(), the longest asleep first. To be called
    /// after slots were given. The sequence changes first, so that one who is about to sleep does
    /// not.
    /// Pairs:  the fence <- the barrier of one who begins to wait: either we see that it waits, or
    ///         it sees what was given.
    void wake(std::uint64_t slots) noexcept {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (slots != 0 && pool_.live().waiters.load(std::memory_order_relaxed) != 0) {
            pool_.live().wake_sequence.fetch_add(1, std::memory_order_seq_cst);
            futex_wake(pool_.live().wake_sequence, slots);
        }
    }

protected:
    using RingOf = RingId (*)(std::uint32_t shard) noexcept;

    // G1 of give(). Returns which sort of ring the hint belongs in.
    [[nodiscard]] RingOf give_word(MagazineId m) noexcept {
        MagazineHead& magazine = pool_.magazine(m);
        const MagazineWord word{magazine.word.load(std::memory_order_relaxed)};
        const bool has_slots = count(m) != 0;
        const MagazineWord given =
            word.next(has_slots ? MagazineState::kFull : MagazineState::kEmpty);
        magazine.word.store(given.bits, std::memory_order_release);  // G1
        return has_slots ? &full_ring : &empty_ring;
    }

    // Pushes into the ring of `shard`, or of the next shard whose ring is not full; false if all
    // are.
    bool push(RingOf sort, MagazineId m, std::uint32_t shard) noexcept {
        for (std::uint32_t k = 0; k <= mask_; ++k) {
            if (Ring(pool_, sort((shard + k) & mask_)).push(m)) {
                return true;
            }
        }
        return false;
    }

private:
    // Looks at home, then in `last`, where the last one was found, then in all others, in another
    // order for each home: in the same order, those who find nothing at home would all meet at one
    // ring.
    MagazineId claim_near(RingOf sort, std::uint32_t& last, LaneId lane) noexcept {
        MagazineId m = claim(sort(home_), lane);
        if (m == kNoMagazine && last != home_) {
            m = claim(sort(last), lane);
        }
        for (std::uint32_t k = 1; m == kNoMagazine && k <= mask_; ++k) {
            const std::uint32_t shard = home_ ^ k;
            if (shard != last && (m = claim(sort(shard), lane)) != kNoMagazine) {
                last = shard;
            }
        }
        return m;
    }

    // Claims a magazine that has slots and room. kNoMagazine if one round through the ring of each
    // shard met none, or `tries`, which it counts down, is 0. Those that are full go back into the
    // shard they came from: otherwise all would gather in one ring, and hide what is in the others.
    MagazineId claim_partly_filled(LaneId lane, std::uint64_t& tries) noexcept {
        for (std::uint32_t k = 0; k <= mask_; ++k) {
            const std::uint32_t shard = home_ ^ k;
            for (std::uint32_t n = Ring(pool_, full_ring(shard)).size(); n != 0 && tries != 0;
                 --n) {
                const MagazineId m = claim(full_ring(shard), lane);
                if (m == kNoMagazine) {
                    break;
                }
                --tries;
                if (count(m) < pool_.magazine_capacity()) {
                    return m;
                }
                push(give_word(m), m, shard);
            }
        }
        return kNoMagazine;
    }

    // Pops hints until one can be claimed. The claim comes first and the removal second, so a death
    // between them leaves a stale hint and never a magazine that no word and no hint names. A hint
    // whose claim fails is stale: its magazine was claimed through another hint, and whoever gives
    // it back will push a new one, after this one.
    MagazineId claim(RingId id, LaneId lane) noexcept {
        Ring ring(pool_, id);
        for (;;) {
            const Hint hint = ring.peek();
            if (hint.magazine == kNoMagazine) {
                return kNoMagazine;
            }
            bool claimed = false;
            if (pool_.has_magazine(hint.magazine)) {
                const MagazineWord word{
                    pool_.magazine(hint.magazine).word.load(std::memory_order_relaxed)};
                begin_work();
                claimed = word.state() == state_in(id) && try_claim(hint.magazine, word, lane);
            }
            ring.remove(hint);
            if (claimed) {
                return hint.magazine;
            }
        }
    }

    Pool pool_;
    std::uint32_t mask_;  // number of shards - 1
    std::uint32_t home_;
    std::uint32_t last_full_;
    std::uint32_t last_empty_;
    std::uint32_t next_look_ = 0;
    std::atomic<std::uint32_t>* busy_;
};

}  // namespace mempool::shm
