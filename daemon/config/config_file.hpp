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

/// The settings of `file` in order. Throws ConfigError if it can't be read or a line is no setting.
std::vector<Setting> read_settings(const std::filesystem::path& file);

}  // namespace mempoold
