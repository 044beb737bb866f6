#include "text.hpp"

#include <fmt/format.h>
#include <pwd.h>

#include <array>
#include <charconv>
#include <ctime>
#include <vector>

#include "command.hpp"

namespace mempoolctl {

std::string format_bytes(std::uint64_t bytes) {
    constexpr std::array<std::string_view, 7> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    std::uint64_t scale = 1;
    while (unit + 1 < kUnits.size() && bytes / scale >= 1024) {
        scale *= 1024;
        ++unit;
    }
    if (bytes % scale == 0) {
        return fmt::format("{}{}", bytes / scale, kUnits[unit]);
    }
    return fmt::format("{:.1f}{}", static_cast<double>(bytes) / static_cast<double>(scale),
                       kUnits[unit]);
}

std::string format_duration(std::uint64_t seconds) {
    const std::uint64_t minutes = seconds / 60;
    const std::uint64_t hours = minutes / 60;
    if (minutes == 0) {
        return fmt::format("{}s", seconds);
    }
    if (hours == 0) {
        return fmt::format("{}m{:02}s", minutes, seconds % 60);
    }
    if (hours < 24) {
        return fmt::format("{}h{:02}m", hours, minutes % 60);
    }
    return fmt::format("{}d{:02}h", hours / 24, hours % 24);
}

std::string format_time(std::uint64_t epoch_seconds) {
    if (epoch_seconds == 0) {
        return "-";
    }
    const auto time = static_cast<std::time_t>(epoch_seconds);
    std::tm parts{};
    std::array<char, 64> text{};
    if (::localtime_r(&time, &parts) == nullptr ||
        std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S %z", &parts) == 0) {
        return fmt::format("@{}", epoch_seconds);
    }
    return text.data();
}

std::uint64_t age_of(std::uint64_t epoch_seconds) {
    const auto now = static_cast<std::uint64_t>(std::time(nullptr));
    return now > epoch_seconds ? now - epoch_seconds : 0;
}

std::string user_name(std::uint32_t uid) {
    std::vector<char> buffer(16384);
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
        return found->pw_name;
    }
    return std::to_string(uid);
}

std::string printable(std::string_view text) {
    std::string result(text);
    for (char& c : result) {
        if (c < ' ' || c > '~') {
            c = '?';
        }
    }
    return result;
}

std::string counted(std::uint64_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::uint64_t parse_number(std::string_view what, std::string_view text, std::uint64_t least,
                           std::uint64_t most) {
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || rest != end || number < least || number > most) {
        throw UsageError(fmt::format("{} must be a whole number from {} to {}, not '{}'", what,
                                     least, most, printable(text)));
    }
    return number;
}

}  // namespace mempoolctl
