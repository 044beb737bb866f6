// What a daemon takes of the machine, as /proc shows it to root.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace mempool_test {

struct DaemonFigures {
    std::uint64_t resident_kib = 0;
    std::uint64_t anonymous_kib = 0;  ///< of these: memory of its own, not of pools
    std::uint64_t descriptors = 0;    ///< without those of objects that pools have now: pools grow
    std::uint64_t mappings = 0;       ///< the same
};

DaemonFigures figures_of(pid_t pid);

/// Whether `now` is as at the beginning, or near enough: a connection or an allocator's reserve
/// more.
bool is_settled(const DaemonFigures& before, const DaemonFigures& now);

/// What its descriptors are, a line for each kind, with how many.
std::string list_descriptors(pid_t pid);

std::string describe(const DaemonFigures& figures);

}  // namespace mempool_test
