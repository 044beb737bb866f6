// What a run of mempool_chaos is told on its command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mempool_test {

/// A run ends when it has killed as many clients and daemons as it shall, and no earlier than after
/// `minutes`.
struct ChaosOptions {
    std::uint32_t minutes = 0;
    std::uint32_t client_kills = 300;
    std::uint32_t daemon_kills = 10;
    std::uint32_t members = 9;  ///< processes at a time
    std::uint64_t seed = 0;     ///< 0: by chance
};

/// Reads what GoogleTest left of the arguments; nullopt after a message about what is wrong.
std::optional<ChaosOptions> parse_chaos_options(const std::vector<std::string>& arguments);

/// The command that repeats a run.
std::string command_of(const ChaosOptions& options);

}  // namespace mempool_test
