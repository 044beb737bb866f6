// What a run of mempool_siege is told on its command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mempool_test {

struct SiegeOptions {
    std::uint32_t seconds = 20;     ///< of the siege; peace before it takes a quarter, at most 20 s
    std::uint64_t seed = 0;         ///< 0: by chance
    std::string daemon;             ///< program; empty: the mempoold of this build
    bool strict = false;            ///< also fail for times; set where the run is long
    std::vector<std::string> only;  ///< kinds of acts; none: all
    std::vector<std::string> without;  ///< kinds of acts to leave out
};

/// Reads what GoogleTest left of the arguments; nullopt after a message about what is wrong.
std::optional<SiegeOptions> parse_siege_options(const std::vector<std::string>& arguments);

/// The command that repeats a run.
std::string command_of(const SiegeOptions& options);

}  // namespace mempool_test
