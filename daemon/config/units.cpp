#include "daemon/config/units.hpp"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>
#include <utility>

namespace mempoold {

namespace {

struct Unit {
    std::string_view name;
    std::uint64_t bytes;
};

constexpr std::array<Unit, 7> kUnits{{{"GiB", std::uint64_t{1} << 30U},
                                      {"MiB", std::uint64_t{1} << 20U},
                                      {"KiB", std::uint64_t{1} << 10U},
                                      {"G", 1'000'000'000},
                                      {"M", 1'000'000},
                                      {"K", 1'000},
                                      {"", 1}}};

// Digits alone: from_chars would take a minus sign.
bool read_digits(std::string_view digits, std::uint64_t& value) {
    const char* end = digits.data() + digits.size();
    const auto result = std::from_chars(digits.data(), end, value);
    return !digits.empty() && result.ec == std::errc{} && result.ptr == end;
}

bool only_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::uint64_t parse_size(std::string_view text) {
    const std::size_t length = std::min(text.find_first_not_of("0123456789"), text.size());
    const std::string_view digits = text.substr(0, length);
    const std::string_view suffix = text.substr(length);
    for (const Unit& unit : kUnits) {
        if (digits.empty() || suffix != unit.name) {
            continue;
        }
        std::uint64_t value = 0;
        if (!read_digits(digits, value) ||
            value > std::numeric_limits<std::uint64_t>::max() / unit.bytes) {
            throw ConfigError(fmt::format("'{}' is more bytes than 64 bits can count", text));
        }
        if (value == 0) {
            throw ConfigError("a size must be at least 1 byte");
        }
        return value * unit.bytes;
    }
    throw ConfigError(fmt::format(
        "'{}' is not a size: write digits and K, M, G, KiB, MiB, GiB or nothing", text));
}

std::uint64_t parse_number(std::string_view text, std::uint64_t least, std::uint64_t most) {
    if (!only_digits(text)) {
        throw ConfigError(fmt::format("'{}' is not a number", text));
    }
    std::uint64_t value = 0;
    if (!read_digits(text, value) || value < least || value > most) {
        throw ConfigError(fmt::format("{} is not from {} to {}", text, least, most));
    }
    return value;
}

double parse_factor(std::string_view text) {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value);
    if (text.empty() || result.ec != std::errc{} || result.ptr != end || !std::isfinite(value) ||
        value <= 1 || value > 1000) {
        throw ConfigError(
            fmt::format("'{}' is not a factor above 1 and up to 1000, such as 2 or 1.5", text));
    }
    return value;
}

bool parse_switch(std::string_view text) {
    for (const std::string_view word : {"yes", "on", "true", "1"}) {
        if (text == word) {
            return true;
        }
    }
    for (const std::string_view word : {"no", "off", "false", "0"}) {
        if (text == word) {
            return false;
        }
    }
    throw ConfigError(fmt::format("'{}' is neither yes nor no", text));
}

std::uint32_t parse_mode(std::string_view text) {
    std::uint32_t mode = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, mode, 8);
    if (text.empty() || result.ec != std::errc{} || result.ptr != end || text.front() == '-' ||
        (mode & ~0666U) != 0) {
        throw ConfigError(fmt::format("'{}' is not a mode: write it in octal, 0600 to 0666", text));
    }
    if ((mode & 0600U) != 0600U) {
        throw ConfigError(fmt::format("mode {} must let the owner read and write (06..)", text));
    }
    return mode;
}

Watermark parse_watermark(std::string_view text) {
    if (!text.empty() && text.back() == '%') {
        text.remove_suffix(1);
        return {static_cast<std::uint32_t>(parse_number(text, 0, 100)), true};
    }
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
    return {static_cast<std::uint32_t>(parse_number(text, 0, kMost)), false};
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\r\n";
    const std::size_t first = text.find_first_not_of(kBlanks);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::vector<std::string> parse_list(std::string_view text) {
    std::vector<std::string> parts;
    if (trimmed(text).empty()) {
        return parts;
    }
    for (;;) {
        const std::size_t end = text.find_first_of(",+:");
        const std::string_view part = trimmed(text.substr(0, end));
        if (part.empty()) {
            throw ConfigError("a part of the list is empty");
        }
        parts.emplace_back(part);
        if (end == std::string_view::npos) {
            return parts;
        }
        text.remove_prefix(end + 1);
    }
}

std::string format_size(std::uint64_t bytes) {
    for (const Unit& unit : kUnits) {
        if (unit.name.size() != 1 && bytes >= unit.bytes && bytes % unit.bytes == 0) {
            return fmt::format("{}{}", bytes / unit.bytes, unit.name);
        }
    }
    return fmt::format("{}", bytes);
}

}  // namespace mempoold
