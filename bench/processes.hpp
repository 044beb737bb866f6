// Work done by several processes at once, timed by each of them.
#pragma once

#include <functional>

namespace bench {

/// Where processes meet before the clock starts. Lives in memory they share.
class Barrier;

/// Called by each process when it is ready; returns when all are.
void meet(Barrier& barrier);

/// Forks `count` processes that each call `work(index, barrier)` and return the seconds they
/// measured; the mean of these. Exits the program with a message if one of them fails.
[[nodiscard]] double run_processes(int count,
                                   const std::function<double(int index, Barrier&)>& work);

/// Memory shared with processes forked later; zeroed; never freed.
[[nodiscard]] void* shared_memory(std::size_t bytes);

}  // namespace bench
