// The daemon's configuration: what the command line and the files say together.
//
// Loaded at start and at each reload; the values are then only read. Opens no socket, makes no
// pool.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/log.hpp"
#include "daemon/config/command_line.hpp"
#include "daemon/config/pool_config.hpp"

namespace mempoold {

struct Config {
    std::string file;    ///< that was read; empty: none
    std::string socket;  ///< empty: the default place
    std::string admin_group;
    std::optional<gid_t> admin_gid;
    LogLevel log_level = LogLevel::kInfo;
    bool remove_on_exit = false;
    std::uint32_t max_connections_per_user = 0;  ///< 0: a quarter of all
    std::vector<PoolConfig> pools;
    std::vector<std::string> faults;  ///< of files in pools.d, whose pools are left out
    bool built_in_pool = false;       ///< no pool was configured, `pools` holds one of ours
};

/// Reads the files that `line` names, or the default one, and puts the command line's own values on
/// top. `default_file` stands for /etc/mempoold/mempoold.conf. Throws ConfigError, FILE:LINE: what,
/// for the command line, the main file, and where no pool is left. May wait for name services.
Config load_config(const CommandLine& line,
                   const std::filesystem::path& default_file = "/etc/mempoold/mempoold.conf");

/// The faults in one line.
std::string join_faults(const Config& config);

/// What --check-config prints: a file that says the same.
std::string format_config(const Config& config);

}  // namespace mempoold
