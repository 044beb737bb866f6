// Figures as people read them, and back.
//
// Pure functions but for the clock, the time zone and the user database. Nothing here is for JSON,
// which gets plain numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mempoolctl {

/// "640B", "64KiB", "1.5MiB": exact if it is a multiple of the unit, else to one decimal.
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);
/// "7s", "3m20s", "5h07m", "2d03h".
[[nodiscard]] std::string format_duration(std::uint64_t seconds);
/// Seconds since the epoch as local date and time with the zone's offset; "-" for 0.
[[nodiscard]] std::string format_time(std::uint64_t epoch_seconds);
/// Seconds since `epoch_seconds`; 0 if that is in the future.
[[nodiscard]] std::uint64_t age_of(std::uint64_t epoch_seconds);
/// The user's login name, or the number where it has none.
[[nodiscard]] std::string user_name(std::uint32_t uid);
/// `text` with every byte that is not printable ASCII as '?': other processes choose their names.
[[nodiscard]] std::string printable(std::string_view text);
/// `count` and `noun`, with an s unless it is one.
[[nodiscard]] std::string counted(std::uint64_t count, std::string_view noun);

/// A decimal number from `least` to `most`. Throws UsageError, which calls it `what`.
[[nodiscard]] std::uint64_t parse_number(std::string_view what, std::string_view text,
                                         std::uint64_t least, std::uint64_t most);

}  // namespace mempoolctl
