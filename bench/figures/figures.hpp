// mempool's own figures: what has no peer. Each is one number, measured on a mempoold of its own,
// but for the steps, which need none.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "harness/daemon.hpp"
#include "harness/stopwatch.hpp"

namespace bench {

/// Thrown where the library can't do what a figure is about.
struct NotSupported : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline double microseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// `samples` is not empty.
inline double median(std::vector<double> samples) {
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
    std::nth_element(samples.begin(), middle, samples.end());
    return *middle;
}

/// A forked process that is killed when this goes, if it still lives.
class Child {
public:
    /// Runs `work()` in the child, which then ends.
    template <typename Work>
    explicit Child(Work work) : pid_(start()) {
        if (pid_ == 0) {
            end(work);
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() { kill(); }
    /// With SIGKILL, and waits for its end.
    void kill();

private:
    static pid_t start();
    [[noreturn]] static void leave(const char* what);
    template <typename Work>
    [[noreturn]] static void end(Work& work) {
        try {
            work();
        } catch (const std::exception& e) {
            leave(e.what());
        }
        leave(nullptr);
    }
    pid_t pid_;
};

// Steps: nanoseconds of a get and a put by the steps of mempool's, with what their magazine takes
// by itself, and how many fewer they are without some.
double pair_steps();
double pair_magazine();
double step_word();
double step_thieves();
double step_owner();
double step_diagnostics();
double step_options();
double step_address();
// Waiting: microseconds from just before a put (or a bare FUTEX_WAKE) in one process until another
// that slept in get_for (or FUTEX_WAIT) goes on; median of the rounds of one run, and their ratio.
double wake_by_put();
double wake_by_futex();
double wake_ratio();
// Stealing: microseconds of the first get when all free slots lie in another's caches.
double steal();
// Microseconds from kill -9 of a client that holds 1000 slots until another has got 1000.
double reclaim_10k();
double reclaim_100k();
double reclaim_1m();
// Attaching to a pool of a million slots.
double start_to_first_client();
double attach();
double client_memory_kib();
double metadata_bytes();
// Growing by 100,000 slots of 64 bytes: when an operator asks, and when a get finds nothing.
double grow();
double grow_on_demand();
/// Prints a table of how long single gets and puts take at the most.
void print_tails();

}  // namespace bench
