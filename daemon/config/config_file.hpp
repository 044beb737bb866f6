// Reading a configuration file: `key = value` lines, '#' begins a comment.
//
// Used by load_config(). Knows nothing of what the keys mean.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mempoold {

/// One line of a file.
struct Setting {
    std::string key;
    std::string value;
    std::string where;  ///< FILE:LINE
};

/// The settings of `file` in order. Throws ConfigError if it can't be read, is neither a regular
/// file nor /dev/null, or a line is no setting. Waits for no other process, except a file system's.
std::vector<Setting> read_settings(const std::filesystem::path& file);

}  // namespace mempoold
