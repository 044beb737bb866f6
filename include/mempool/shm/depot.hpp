// The depot: where lanes get magazines from and give them to.
//
// Used by clients' lanes and by the daemon. Two rings of hints, one of magazines with slots and one
// of empty ones; whose a magazine is, its word says. Makes no system call but wake()'s.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/futex.hpp"
#include "mempool/shm/layout.hpp"
#include "mempool/shm/pool.hpp"
#include "mempool/shm/ring.hpp"

namespace mempool::shm {

/// View of a pool's depot. Copyable; lock-free; any thread of any process that maps the pool.
class Depot {
public:
    explicit Depot(const Pool& pool) noexcept
        : pool_(pool),
          full_(pool.live().full, pool.full_cells(), pool.geometry().ring_capacity),
          empty_(pool.live().empty, pool.empty_cells(), pool.geometry().ring_capacity) {}

    /// Claims a magazine with slots for `lane`; kNoMagazine if the depot has none.
    [[nodiscard]] MagazineId claim_full(LaneId lane) noexcept {
        return claim(full_, MagazineState::kFull, lane);
    }

    /// Claims a magazine with room for `lane`: an empty one, else one that is not full.
    /// kNoMagazine only where foreign bytes broke the pool: the lanes' own magazines and those for
    /// all slots exist, so while no lane has more than three, one in the depot has room.
    [[nodiscard]] MagazineId claim_room(LaneId lane) noexcept {
        // Both rings at every try: what had no slots a moment ago may have some now, and the
        // reverse.
        for (std::uint32_t tries = pool_.magazine_limit(); tries > 0; --tries) {
            MagazineId m = claim(empty_, MagazineState::kEmpty, lane);
            if (m == kNoMagazine) {
                m = claim_full(lane);
            }
            if (m == kNoMagazine) {
                continue;
            }
            // Of an EMPTY one too: its count may be foreign bytes.
            if (count(m) < pool_.magazine_capacity()) {
                return m;
            }
            give(m);
        }
        return kNoMagazine;
    }

    /// Gives magazine `m`, which the caller owns, to the depot: the word first, then the hint.
    /// Linearizes: G1.
    /// Pairs:  G1 release -> T1 acquire in try_claim(): count, items and FREE words of the giver.
    /// ABA:    only the owner leaves OWNED, so a plain store is enough; the version still grows.
    /// Crash:  before G1 the magazine is the dead lane's; between G1 and the push it has no hint,
    ///         which rehint() mends (nothing is lost, it is FULL or EMPTY by its word).
    void give(MagazineId m) noexcept { give_word(m).push(m); }

    /// Pushes a hint for `m` if its word says FULL or EMPTY. A hint too many does no harm.
    /// Returns whether it pushed one.
    bool hint(MagazineId m) noexcept {
        Ring* const ring = ring_of(m);
        return ring != nullptr && ring->push(m);
    }

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

    [[nodiscard]] const Ring& full_ring() const noexcept { return full_; }
    [[nodiscard]] const Ring& empty_ring() const noexcept { return empty_; }
    [[nodiscard]] const Pool& pool() const noexcept { return pool_; }

    /// Wakes up to `slots` of those who sleep in get_for(), the longest asleep first; after slots
    /// were given. The sequence changes first, so that one who is about to sleep does not.
    /// Pairs: the fence <- the barrier of one who begins to wait: either we see that it waits, or
    /// it sees what was given.
    void wake(std::uint64_t slots) noexcept {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (slots != 0 && pool_.live().waiters.load(std::memory_order_relaxed) != 0) {
            pool_.live().wake_sequence.fetch_add(1, std::memory_order_seq_cst);
            futex_wake(pool_.live().wake_sequence, slots);
        }
    }

protected:
    // G1 of give(): the ring that is to have the hint.
    [[nodiscard]] Ring& give_word(MagazineId m) noexcept {
        MagazineHead& magazine = pool_.magazine(m);
        const MagazineWord word{magazine.word.load(std::memory_order_relaxed)};
        const bool has_slots = count(m) != 0;
        const MagazineWord given =
            word.next(has_slots ? MagazineState::kFull : MagazineState::kEmpty);
        magazine.word.store(given.bits, std::memory_order_release);  // G1
        return has_slots ? full_ : empty_;
    }

    // The ring that a hint for `m` belongs into, by its word; nullptr if in none.
    [[nodiscard]] Ring* ring_of(MagazineId m) noexcept {
        switch (MagazineWord{pool_.magazine(m).word.load(std::memory_order_acquire)}.state()) {
            case MagazineState::kFull:
                return &full_;
            case MagazineState::kEmpty:
                return &empty_;
            default:
                return nullptr;
        }
    }

private:
    // Pops hints until one can be claimed. The claim comes first and the removal second, so a death
    // between them leaves a stale hint and never a magazine that no word and no hint names. A hint
    // whose claim fails is stale: its magazine was claimed through another hint, and whoever gives
    // it back will push a new one, behind this one.
    MagazineId claim(Ring& ring, MagazineState wanted, LaneId lane) noexcept {
        for (;;) {
            const Hint hint = ring.peek();
            if (hint.magazine == kNoMagazine) {
                return kNoMagazine;
            }
            bool claimed = false;
            if (pool_.has_magazine(hint.magazine)) {
                const MagazineWord word{
                    pool_.magazine(hint.magazine).word.load(std::memory_order_relaxed)};
                claimed = word.state() == wanted && try_claim(hint.magazine, word, lane);
            }
            ring.remove(hint);
            if (claimed) {
                return hint.magazine;
            }
        }
    }

    Pool pool_;

protected:
    Ring full_;
    Ring empty_;
};

}  // namespace mempool::shm
