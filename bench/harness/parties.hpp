// Processes, or threads, that work at once and are timed by themselves.
//
// Used by the measuring programs outside their timed loops.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <vector>

namespace bench {

/// What the parties of a case are. Threads for an allocator that lives in one process only.
enum class Kind { kProcesses, kThreads };

/// Where parties meet before the clock starts. Lives in memory they share; may be used repeatedly.
class Meeting {
public:
    explicit Meeting(int parties) : parties_(parties) {}
    /// Returns when all parties have called it as often as this one.
    void meet() {
        const int round = arrived_.fetch_add(1, std::memory_order_acq_rel) / parties_;
        while (arrived_.load(std::memory_order_acquire) < (round + 1) * parties_) {
            ::sched_yield();
        }
    }

private:
    const int parties_;
    std::atomic<int> arrived_{0};
};

using Work = std::function<double(int index, Meeting& meeting)>;

/// Has `count` parties call `work(index, meeting)`; what each returned. A single party is the
/// caller itself. Throws std::runtime_error if one of them fails; the others are then killed.
[[nodiscard]] std::vector<double> run_parties(Kind kind, int count, const Work& work);

/// Memory shared with processes forked later; zeroed; never freed. Throws std::system_error.
[[nodiscard]] void* shared_memory(std::size_t bytes);

}  // namespace bench
