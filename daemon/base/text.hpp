// Bytes from files and peers as text for people.
//
// Used for log lines, the unit's status, and what the configuration says. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mempoold {

/// `text` with every control character, and every byte that is not UTF-8, as \xNN: else journald
/// keeps the line as a blob, and a terminal obeys it.
std::string printable(std::string_view text);

/// The first byte of `text` that is neither UTF-8 nor a tab, or is a control character, as 0xNN;
/// empty if there is none.
std::string strange_byte(std::string_view text);

/// `text`, or its beginning of at most `most` bytes and "...". No character is cut.
std::string shortened(std::string_view text, std::size_t most);

}  // namespace mempoold
