#include "daemon/config/config_file.hpp"

#include <fmt/core.h>

#include <boost/program_options.hpp>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "daemon/config/units.hpp"

namespace mempoold {

namespace {

namespace po = boost::program_options;

[[noreturn]] void cannot_read(const std::filesystem::path& file) {
    throw ConfigError(fmt::format("cannot read {}: {}", file.string(),
                                  std::generic_category().message(errno == 0 ? EIO : errno)));
}

}  // namespace

// Line by line, since the INI parser of program_options does not say where an error is.
std::vector<Setting> read_settings(const std::filesystem::path& file) {
    std::error_code error;
    if (std::filesystem::is_directory(file, error)) {
        throw ConfigError(fmt::format("cannot read {}: it is a directory", file.string()));
    }
    errno = 0;
    std::ifstream stream(file);
    if (!stream) {
        cannot_read(file);
    }
    const po::options_description nothing_known;
    std::vector<Setting> settings;
    std::string line;
    for (int number = 1; std::getline(stream, line); ++number) {
        const std::string where = fmt::format("{}:{}", file.string(), number);
        if (line.find('\0') != std::string::npos) {
            throw ConfigError(where + ": not a text file");
        }
        if (const auto text = trimmed(line); !text.empty() && text.front() == '[') {
            throw ConfigError(where + ": sections are not used here; write key = value");
        }
        try {
            std::istringstream one(line);
            for (const po::option& option :
                 po::parse_config_file(one, nothing_known, true).options) {
                settings.push_back(
                    {option.string_key, option.value.empty() ? "" : option.value.front(), where});
            }
        } catch (const po::error&) {
            throw ConfigError(fmt::format("{}: '{}' is not key = value", where, trimmed(line)));
        }
    }
    if (stream.bad()) {
        cannot_read(file);
    }
    return settings;
}

}  // namespace mempoold
