// Whoever waits for a slot has a pulse: one that stands still is not counted among those who wait.
//
// While somebody is counted in Live::waiters, every put shares what its lane has cached: some
// hundred nanoseconds in place of a few. So a waiter that was stopped, by a debugger or ^Z, must
// not count for as long as it stands still. Each waiter raises its lane's pulse before each look,
// ten times a second at least. Whoever comes by, the daemon each second or a put that shares,
// compares the pulses with those of a second ago, and takes out who did not move. Once such a one
// goes on, it counts itself again. Nobody waits for anybody, and a put that finds nobody waiting
// pays nothing for it.
//
//   taker    pulse as a second ago? then W9 CAS the lane's WaitWord: nobody counted, the next
//            round ; waiters - so many ; W6 sequence + 1, wake all
//   waiter   W7 pulse + 1 ; W4 sequence ; W8 still in its round? if not: W2, W3 again ; look ; W5
//
// No wake is lost by it. If W8 finds the next round, the waiter looks after W2 and W3, as one that
// begins to wait. If it does not, W9 came after W8, so the taker's W6 after W4, wherever the waiter
// stood and whether or not it moves again: W5 does not sleep, or is woken, and the next W8 finds
// it. tests/model/wait.pml, with STOP, is this as a model.
//
// CLOCK_MONOTONIC paces it. In a process of another time namespace it reads otherwise, so a waiter
// may be taken out early there: that costs it a slice. Threads that share a lane have one pulse.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "mempool/shm/depot/futex.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// Between two looks at the pulses. Nine times a waiter's longest slice.
constexpr std::uint64_t kPulseNs = 900'000'000;

[[nodiscard]] inline std::uint64_t monotonic_ns() noexcept {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

/// Takes `count` from the sum of waiters, never below zero: the daemon may have corrected it.
inline void subtract_waiters(Live& live, std::uint32_t count) noexcept {
    std::uint32_t seen = live.waiters.load(std::memory_order_relaxed);
    while (count != 0 && !live.waiters.compare_exchange_weak(seen, seen > count ? seen - count : 0,
                                                             std::memory_order_relaxed)) {
    }
}

/// Takes all of `lane`'s threads out of the sum, if its word still is `seen`; whether it did.
/// Linearizes: W9.
/// Pairs:  W9 seq_cst -> W8 acquire, before the caller's W6: see above.
/// ABA:    W9 names the round, which grows.
/// Crash:  after W9 the sum is too high, which the daemon corrects; before W6 it costs a slice.
inline bool take_out(Live& live, LaneRecord& lane, WaitWord seen) noexcept {
    const WaitWord none = WaitWord::make(seen.round() + 1, 0);
    if (seen.count() == 0 || !lane.counted.compare_exchange_strong(seen.bits, none.bits,  // W9
                                                                   std::memory_order_seq_cst,
                                                                   std::memory_order_relaxed)) {
        return false;
    }
    subtract_waiters(live, seen.count());
    return true;
}

/// Takes out of Live::waiters who has not moved since the last look, if that is kPulseNs ago; else
/// does nothing. Any process; O(lanes) once in that time.
[[gnu::noinline, gnu::cold]] inline void take_out_the_stopped(const Pool& pool) noexcept {
    Live& live = pool.live();
    std::uint64_t last = live.pulses_felt_at.load(std::memory_order_relaxed);
    const std::uint64_t now = monotonic_ns();
    if (live.waiters.load(std::memory_order_relaxed) == 0 || now - last < kPulseNs ||
        !live.pulses_felt_at.compare_exchange_strong(last, now, std::memory_order_relaxed)) {
        return;
    }
    bool taken = false;
    for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool.geometry().lane_count; ++l) {
        LaneRecord& lane = pool.lane(LaneId{l});
        const WaitWord counted{lane.counted.load(std::memory_order_relaxed)};
        if (counted.count() == 0) {
            continue;
        }
        const std::uint32_t pulse = lane.pulse.load(std::memory_order_relaxed);
        taken |= lane.pulse_before.exchange(pulse, std::memory_order_relaxed) == pulse &&
                 take_out(live, lane, counted);
    }
    if (taken) {
        live.wake_sequence.fetch_add(1, std::memory_order_seq_cst);  // W6
        futex_wake(live.wake_sequence, ~std::uint64_t{0});
    }
}

/// How many the sum of waiters should be, by the lanes in use. An estimate while some come and go.
[[nodiscard]] inline std::uint32_t count_waiters(const Pool& pool) noexcept {
    std::uint32_t waiters = 0;
    for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool.geometry().lane_count; ++l) {
        const LaneRecord& lane = pool.lane(LaneId{l});
        const LaneWord word{lane.word.load(std::memory_order_relaxed)};
        if (word.state() == LaneState::kOwned) {
            waiters += WaitWord{lane.counted.load(std::memory_order_relaxed)}.count();
        }
    }
    return waiters;
}

}  // namespace mempool::shm
