// Numbers as people write them in configuration.
//
// Used by the configuration's parsers. Pure; errors are ConfigError, whose text lacks the place.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mempoold {

/// Something in the configuration is wrong; what() says what, where, and what would be right.
class ConfigError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Bytes: digits and one of K, M, G (powers of 1000) or KiB, MiB, GiB (powers of 1024) or nothing.
std::uint64_t parse_size(std::string_view text);

/// A decimal number from `least` to `most`.
std::uint64_t parse_number(std::string_view text, std::uint64_t least, std::uint64_t most);

/// A number above 1, such as 2 or 1.5.
double parse_factor(std::string_view text);

/// yes, on, true, 1 or no, off, false, 0.
bool parse_switch(std::string_view text);

/// Permission bits in octal that let the owner read and write, at most 0666.
std::uint32_t parse_mode(std::string_view text);

/// Free slots, or hundredths of the slots there are.
struct Watermark {
    std::uint32_t value = 10;
    bool percent = true;

    [[nodiscard]] constexpr std::uint64_t of(std::uint64_t slots) const noexcept {
        return percent ? slots * value / 100 : value;
    }
    friend bool operator==(const Watermark&, const Watermark&) = default;
};
Watermark parse_watermark(std::string_view text);

/// The parts of a list separated by ',', '+' or ':', without blanks around them; none is empty.
std::vector<std::string> parse_list(std::string_view text);

/// `text` without blanks at either end.
std::string_view trimmed(std::string_view text);

/// As parse_size() reads it: 64KiB, 1500.
std::string format_size(std::uint64_t bytes);

}  // namespace mempoold
