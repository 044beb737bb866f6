// The depot's ring: a bounded lock-free queue of magazine hints, shared by all processes.
//
// Any thread of any process that maps the pool may push and pop. A cell is one 64-bit word,
// `lap:32 | magazine:32`; magazine 0 marks an empty cell, so a zeroed array is an empty ring.
// The ring hands out hints only: whoever pops must claim the magazine by its own word first, and
// removes the hint second. Nobody waits for anybody: a process that is stopped or dies between
// any two steps leaves a position that the next caller moves on itself.
//
// Cases at position p, lap L = p / capacity, for the cell at p:
//   {L,   0}   free in this lap            push: fill it · pop: the ring is empty
//   {L,   m}   filled in this lap          push: tail is late, help · pop: claim m, then remove
//   {L+1, x}   emptied in this lap         push: tail is late, help · pop: head is late, help
//   {L-1, m}   still filled from before    push: the ring is full
//   anything else: our position is stale, or the bytes are foreign: look again, then give up
//
// After Bonwick and Adams, "Magazines and Vmem" (USENIX 2001), for the magazines; the cell-with-lap
// queue follows Vyukov's bounded MPMC queue, with the CAS on the cell itself.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// Outcome of looking at a ring's head.
struct Hint {
    std::uint64_t position = 0;
    std::uint64_t cell = 0;
    MagazineId magazine = kNoMagazine;  ///< kNoMagazine: the ring is empty
};

/// One ring over a RingState and its cells. Copyable view; lock-free; any process.
class Ring {
public:
    Ring(RingState& state, std::atomic<std::uint64_t>* cells, std::uint32_t capacity) noexcept
        : state_(&state), cells_(cells), mask_(capacity - 1), shift_(log2(capacity)) {}
    Ring(const Pool& pool, RingId id) noexcept
        : Ring(pool.ring_state(id), pool.ring_cells(id), pool.geometry().ring_capacity) {
        tries_ /= pool.shard_count();  // all rings together get as many as one
    }

    /// Appends a hint to `m`; false if the ring is full (the hint is then missing until the daemon
    /// compares words with cells). The magazine's word must already say FULL or EMPTY.
    /// Linearizes: P1.
    /// Pairs:  P1 release -> Q0 acquire in peek(): who sees the hint sees the word given before it.
    ///         P0 acquire <- P1/Q1 release: a cell's lap is never older than the tail that led
    ///         here.
    /// ABA:    a cell's lap grows each time it is emptied; confusion needs 2^32 laps in one push.
    /// Crash:  before P1 the hint is missing, which reclaim mends; after P1 tail lags, all help.
    bool push(MagazineId m) noexcept {
        for (std::uint32_t tries = 0; tries < tries_; ++tries) {
            const std::uint64_t t = state_->tail.load(std::memory_order_acquire);
            std::atomic<std::uint64_t>& cell = cells_[t & mask_];
            std::uint64_t seen = cell.load(std::memory_order_acquire);  // P0
            const std::uint32_t lap = lap_of(t);
            if (lap_in(seen) == lap && magazine_in(seen) == kNoMagazine) {
                if (cell.compare_exchange_strong(seen, make_cell(lap, m),  // P1
                                                 std::memory_order_release,
                                                 std::memory_order_relaxed)) {
                    help(state_->tail, t);
                    return true;
                }
            } else if (lap_in(seen) == lap || lap_in(seen) == lap + 1) {
                help(state_->tail, t);
            } else if (state_->tail.load(std::memory_order_acquire) == t) {
                return false;
            }
        }
        return false;
    }

    /// The hint at the head, without removing it; its magazine is kNoMagazine if the ring is empty.
    /// Linearizes: Q0, for an empty ring.
    /// Pairs:  Q0 acquire <- P1 release: the magazine's word and items as they were given.
    /// ABA:    none, it changes only `head`, and that by at most the step it saw done.
    /// Crash:  nothing is changed but `head`, which anybody moves on.
    [[nodiscard]] Hint peek() noexcept {
        for (std::uint32_t tries = 0; tries < tries_; ++tries) {
            const std::uint64_t h = state_->head.load(std::memory_order_acquire);
            const std::uint64_t seen = cells_[h & mask_].load(std::memory_order_acquire);  // Q0
            const std::uint32_t lap = lap_of(h);
            if (lap_in(seen) == lap && (magazine_in(seen) != kNoMagazine || !is_passed(h))) {
                return {h, seen, magazine_in(seen)};
            }
            if (lap_in(seen) == lap) {
                if (is_foreign(h)) {
                    return {};
                }
                // Tail has gone by, so the cell was filled since, or foreign bytes emptied it: then
                // it would hide all that stands after it. The CAS tells.
                std::uint64_t empty = seen;
                cells_[h & mask_].compare_exchange_strong(empty, make_cell(lap + 1, kNoMagazine),
                                                          std::memory_order_release,
                                                          std::memory_order_relaxed);
                continue;
            }
            if (lap_in(seen) == lap + 1) {
                help(state_->head, h);
            } else if (state_->head.load(std::memory_order_acquire) == h) {
                return {};
            }
        }
        return {};
    }

    /// Removes `hint`, which peek() returned, after its magazine was claimed or found stale.
    /// Linearizes: Q1; a failed Q1 means that somebody else removed it.
    /// Pairs:  Q1 release -> P0 acquire: the next lap's push comes after this lap's pop.
    /// ABA:    Q1 names the lap; see push().
    /// Crash:  before Q1 a stale hint stays, which the next pop removes; after Q1 head lags.
    void remove(const Hint& hint) noexcept {
        std::uint64_t seen = hint.cell;
        cells_[hint.position & mask_].compare_exchange_strong(  // Q1
            seen, make_cell(lap_of(hint.position) + 1, kNoMagazine), std::memory_order_release,
            std::memory_order_relaxed);
        help(state_->head, hint.position);
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept {
        return static_cast<std::uint32_t>(mask_ + 1);
    }
    /// The magazine that cell `k` (0 .. capacity - 1) hints at, or kNoMagazine. For audits.
    [[nodiscard]] MagazineId cell(std::uint32_t k) const noexcept {
        return magazine_in(cells_[k].load(std::memory_order_acquire));
    }
    /// About how many hints it has, at most its capacity.
    [[nodiscard]] std::uint32_t size() const noexcept {
        const std::uint64_t head = state_->head.load(std::memory_order_acquire);
        const std::uint64_t hints = state_->tail.load(std::memory_order_acquire) - head;
        return static_cast<std::uint32_t>(hints <= mask_ ? hints : mask_ + 1);
    }
    /// Head and tail added: a figure that changes whenever a hint comes or goes.
    [[nodiscard]] std::uint64_t activity() const noexcept {
        return state_->head.load(std::memory_order_acquire) +
               state_->tail.load(std::memory_order_acquire);
    }

private:
    // Far more than contention ever takes; a bound, so that foreign bytes cannot hang a caller.
    static constexpr std::uint32_t kMaxTries = 1U << 20U;

    static constexpr std::uint32_t log2(std::uint32_t power_of_two) noexcept {
        return static_cast<std::uint32_t>(std::countr_zero(power_of_two));
    }
    [[nodiscard]] std::uint32_t lap_of(std::uint64_t position) const noexcept {
        return static_cast<std::uint32_t>(position >> shift_);
    }
    static constexpr std::uint32_t lap_in(std::uint64_t cell) noexcept {
        return static_cast<std::uint32_t>(cell >> 32U);
    }
    static constexpr MagazineId magazine_in(std::uint64_t cell) noexcept {
        return MagazineId{static_cast<std::uint32_t>(cell)};
    }
    static constexpr std::uint64_t make_cell(std::uint32_t lap, MagazineId m) noexcept {
        return (std::uint64_t{lap} << 32U) | raw(m);
    }
    [[nodiscard]] bool is_passed(std::uint64_t position) const noexcept {
        return static_cast<std::int64_t>(state_->tail.load(std::memory_order_acquire) - position) >
               0;
    }
    // The tail is farther ahead than a ring can be filled: nobody may walk there. One more than the
    // capacity, since the head may lag behind one removal; a head that moved says nothing.
    [[nodiscard]] bool is_foreign(std::uint64_t head) const noexcept {
        const std::uint64_t tail = state_->tail.load(std::memory_order_acquire);
        return tail - head > mask_ + 2 && state_->head.load(std::memory_order_acquire) == head;
    }
    // Moves a position on by the one step that the caller saw done in its cell.
    static void help(std::atomic<std::uint64_t>& position, std::uint64_t from) noexcept {
        position.compare_exchange_strong(from, from + 1, std::memory_order_release,
                                         std::memory_order_relaxed);
    }

    RingState* state_;
    std::atomic<std::uint64_t>* cells_;
    std::uint64_t mask_;
    std::uint32_t shift_;
    std::uint32_t tries_ = kMaxTries;
};

}  // namespace mempool::shm
