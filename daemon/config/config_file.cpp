#include "daemon/config/config_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <boost/program_options.hpp>
#include <cerrno>
#include <cstddef>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "daemon/base/text.hpp"
#include "daemon/config/units.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

namespace {

namespace po = boost::program_options;

/// No configuration is that long; and what is no configuration may have no end.
constexpr std::size_t kMostBytes = std::size_t{1} << 20U;

[[noreturn]] void cannot_read(const std::filesystem::path& file, const std::string& why) {
    throw ConfigError(fmt::format("cannot read {}: {}", file.string(), why));
}

[[noreturn]] void cannot_read(const std::filesystem::path& file, int error) {
    cannot_read(file, std::generic_category().message(error));
}

bool is_null_device(const struct stat& status) noexcept {
    return S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

// Only a regular file, or /dev/null: opening or reading another kind may wait for ever, or do
// something. Looked at before it is opened, and again after.
std::string read_whole(const std::filesystem::path& file) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) {
        cannot_read(file, errno);
    }
    mempool::shm::UniqueFd fd;
    for (const bool opened : {false, true}) {
        if (S_ISDIR(status.st_mode)) {
            cannot_read(file, "it is a directory");
        }
        if (!S_ISREG(status.st_mode) && !is_null_device(status)) {
            cannot_read(file, "it is not a regular file");
        }
        if (!opened) {
            fd.reset(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
            if (!fd || ::fstat(fd.get(), &status) != 0) {
                cannot_read(file, errno);
            }
        }
    }
    std::string text;
    std::array<char, 16384> part{};
    for (;;) {
        const ssize_t got = ::read(fd.get(), part.data(), part.size());
        if (got == 0) {
            return text;
        }
        if (got > 0) {
            text.append(part.data(), static_cast<std::size_t>(got));
        } else if (errno != EINTR) {
            cannot_read(file, errno);
        }
        if (text.size() > kMostBytes) {
            cannot_read(file, "it is larger than 1 MiB");
        }
    }
}

void require_text(const std::string& where, const std::string& text) {
    if (const std::string byte = strange_byte(text); !byte.empty()) {
        throw ConfigError(fmt::format(
            "{}: byte {} is not text: save the file as UTF-8, without control characters", where,
            byte));
    }
}

}  // namespace

// Line by line, since the INI parser of program_options does not say where an error is.
std::vector<Setting> read_settings(const std::filesystem::path& file) {
    std::string content = read_whole(file);
    // Some editors begin a file with a mark that it is UTF-8.
    constexpr std::string_view kMark = "\xef\xbb\xbf";
    if (content.starts_with(kMark)) {
        content.erase(0, kMark.size());
    }
    std::istringstream stream(std::move(content));
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
                require_text(where, option.string_key);
                require_text(where, option.value.empty() ? "" : option.value.front());
                settings.push_back(
                    {option.string_key, option.value.empty() ? "" : option.value.front(), where});
            }
        } catch (const po::error&) {
            throw ConfigError(fmt::format("{}: '{}' is not key = value", where, trimmed(line)));
        }
    }
    return settings;
}

}  // namespace mempoold
