// What mempoold was called with.
//
// Parsed once by main() and kept, since a reload reads the configuration by it again. Reads no
// file.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mempoold {

struct CommandLine {
    /// The directory in which mempoold was started: relative paths are from there, at a reload
    /// too. Empty if it is gone.
    std::filesystem::path directory;
    std::optional<std::string> config;  ///< --config
    // As in the configuration file, and before it.
    std::optional<std::string> socket;
    std::optional<std::string> admin_group;
    std::optional<std::string> log_level;
    std::optional<std::string> remove_on_exit;
    std::optional<std::string> max_connections_per_user;
    std::vector<std::string> pools;  ///< if any, they replace all configured ones
    bool check_config = false;
    bool help = false;
    bool version = false;
};

/// Throws ConfigError for what it does not know. '-' and '_' in a flag's name are the same.
CommandLine parse_command_line(const std::vector<std::string>& arguments);

/// What --help prints.
std::string help_text();

}  // namespace mempoold
