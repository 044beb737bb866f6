// Waiting for a slot: who sleeps is counted where those who put look, and is woken by them.
//
//   waiter   again: W7 pulse + 1 ; W4 sequence ; W8 counted? if not: W2 waiters + 1 ; W3 barrier
//            on all processors ; look in the own lane, the depot, all idle lanes ; W5 sleep on
//            the sequence if it is still the one of W4
//   putter   its put in a busy section ; B3 busy = 0 ; W1 waiters? if so: gives what it has cached
//            to the depot, W6 sequence + 1, wakes one a slot
//
// No wake is lost. Either W1 comes after the waiter's W3 and sees W2, or the putter's B3 is
// visible after W3, and the look finds its slot in the depot or steals it from the idle lane. A
// putter seen busy has its W1 still ahead. A slot given before the look is found by it; one given
// after it has its W6 after W4, so W5 does not sleep or is woken. A get in mid-operation leaves
// slots in its lane without a W1: then the look says kBusy, and the waiter looks again soon.
// tests/model/wait.pml is this as a model.
//
// A waiter that stands still, stopped or not, is not counted until it goes on: pulse.hpp says by
// whom, and why that loses no wake either.
//
// What a death costs: a putter killed before its wake, or a waiter killed or stopped after one,
// takes that wake along. The others wake by themselves after a slice, or at the reclaim.
//
// Fairness: the kernel wakes in the order of falling asleep. One who has waited for `patience`
// promises itself the next slots for a moment, each time it finds none: others leave what is in
// the depot to it and its like. A moment, so that a waiter that was stopped binds nobody; and no
// longer than until one of them is served, or those it held back would become patient in turn and
// hold back the others for ever.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "mempool/shm/depot/futex.hpp"
#include "mempool/shm/depot/membarrier.hpp"
#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

using MonotonicClock = std::chrono::steady_clock;

/// Longest sleeps of a waiter between two looks.
struct WaitSlices {
    std::chrono::nanoseconds usual = std::chrono::milliseconds{100};   ///< bounds a death's cost
    std::chrono::nanoseconds unfenced = std::chrono::milliseconds{2};  ///< membarrier is refused
    std::chrono::nanoseconds busy = std::chrono::microseconds{50};    ///< after kBusy, then doubled
    std::chrono::nanoseconds busiest = std::chrono::milliseconds{5};  ///< up to this
    /// After so long a waiter's turn comes before that of others.
    std::chrono::nanoseconds patience = std::chrono::milliseconds{1};
};

/// How long a promise binds the others.
constexpr std::uint64_t kPromiseNs = kLongestPromiseNs / 2;

/// One who waits, from its construction to its end. In its lane for the daemon, which subtracts
/// the dead, and in the pool for those who put. A lane that threads share counts.
/// Crash: after either step the daemon corrects the sum. It is then too high for a while, which
///        makes puts slower; one that is stopped between the steps for seconds can be corrected
///        away, which costs a slice.
class Registration {
public:
    Registration(Live& live, LaneRecord& lane) noexcept : live_(live), lane_(lane) {
        lane_.waiting.fetch_add(1, std::memory_order_relaxed);
    }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    ~Registration() {
        WaitWord seen{lane_.counted.load(std::memory_order_relaxed)};
        while (counts_ && seen.round() == round_ && seen.count() != 0) {
            const WaitWord less = WaitWord::make(seen.round(), seen.count() - 1);
            if (lane_.counted.compare_exchange_weak(seen.bits, less.bits,
                                                    std::memory_order_relaxed)) {
                subtract_waiters(live_, 1);
                break;
            }
        }
        lane_.waiting.fetch_sub(1, std::memory_order_relaxed);
    }

    /// A sign of life, before each look.
    void tick() noexcept { lane_.pulse.fetch_add(1, std::memory_order_relaxed); }  // W7
    /// Whether those who put look for this one: not before enlist(), nor once it was taken out.
    [[nodiscard]] bool is_counted() const noexcept {
        return counts_ &&
               WaitWord{lane_.counted.load(std::memory_order_acquire)}.round() == round_;  // W8
    }
    /// From here on it is counted; whether the barrier reaches all.
    [[nodiscard]] bool enlist() noexcept {
        live_.waiters.fetch_add(1, std::memory_order_seq_cst);  // W2
        round_ = WaitWord{lane_.counted.fetch_add(1, std::memory_order_seq_cst)}.round();
        counts_ = true;
        return barrier();  // W3
    }

private:
    Live& live_;
    LaneRecord& lane_;
    std::uint32_t round_ = 0;
    bool counts_ = false;
};

/// wait() without its end.
template <typename Look>
GetResult wait_registered(const Pool& pool, LaneRecord& lane, MonotonicClock::time_point deadline,
                          Look& look, const WaitSlices& slices) noexcept {
    Live& live = pool.live();
    Registration registration(live, lane);
    bool reaches_all = true;
    const MonotonicClock::time_point begun = MonotonicClock::now();
    std::chrono::nanoseconds busy = slices.busy;
    for (;;) {
        registration.tick();                                                            // W7
        const std::uint32_t seen = live.wake_sequence.load(std::memory_order_acquire);  // W4
        if (!registration.is_counted()) {                                               // W8
            reaches_all = registration.enlist();  // W2, W3: now, or once more
        } else if (live.waiters.load(std::memory_order_relaxed) == 0) {
            live.waiters.fetch_add(1, std::memory_order_seq_cst);  // corrected away, see above
        }
        const bool patient = MonotonicClock::now() - begun >= slices.patience;
        const GetResult result = look(patient ? Turn::kPatient : Turn::kUsual);
        if (result != GetResult::kExhausted && result != GetResult::kBusy) {
            if (patient && result == GetResult::kOk) {
                live.promised_until.store(0, std::memory_order_relaxed);  // kept
            }
            return result;
        }
        const MonotonicClock::time_point now = MonotonicClock::now();
        if (now >= deadline) {  // compared: a deadline of long ago has no difference to now
            return result;
        }
        const std::chrono::nanoseconds left = deadline - now;
        if (patient) {
            live.promised_until.store(monotonic_ns() + kPromiseNs, std::memory_order_relaxed);
        }
        std::chrono::nanoseconds slice = reaches_all ? slices.usual : slices.unfenced;
        if (result == GetResult::kBusy) {
            slice = busy;
            busy = std::min<std::chrono::nanoseconds>(2 * busy, slices.busiest);
        } else {
            busy = slices.busy;
        }
        futex_wait(live.wake_sequence, seen,  // W5
                   std::min({left, slice, patient ? slice : slices.patience}));
    }
}

/// Calls `look(Turn)` until it is neither kExhausted nor kBusy or the deadline has passed, and
/// sleeps in between; what it returned last. At least once. `lane` is the caller's.
template <typename Look>
GetResult wait(const Pool& pool, LaneRecord& lane, MonotonicClock::time_point deadline, Look&& look,
               const WaitSlices& slices = {}) noexcept {
    const GetResult result = wait_registered(pool, lane, deadline, look, slices);
    if (result != GetResult::kOk) {
        Depot(pool).wake(1);  // it may have been woken in another's place
    }
    return result;
}

}  // namespace mempool::shm
