// A line for each operation that was killed or stopped everywhere: what docs/reliability.md shows.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace mempool::test {

/// `instructions` the operation has, `times` it was ended or stopped, `faults`: after so many of
/// these a slot was lost or doubled, or something else was wrong.
inline void summarize(const char* what, const std::string& operation, std::uint64_t instructions,
                      std::uint64_t times, std::uint64_t faults) {
    std::printf("crash: %-14s %-32s %6llu instructions %6llu times %4llu faults\n", what,
                operation.c_str(), static_cast<unsigned long long>(instructions),
                static_cast<unsigned long long>(times), static_cast<unsigned long long>(faults));
}

}  // namespace mempool::test
