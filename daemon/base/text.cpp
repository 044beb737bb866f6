#include "daemon/base/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>

namespace mempoold {

namespace {

// How many bytes from `at` on are one printable character of UTF-8; 0: none is there.
std::size_t character_at(std::string_view text, std::size_t at) noexcept {
    const auto byte = [&](std::size_t k) {
        return at + k < text.size() ? static_cast<unsigned char>(text[at + k]) : 0U;
    };
    const unsigned first = byte(0);
    if (first < 0x80) {
        return first >= 0x20 && first != 0x7f ? 1 : 0;
    }
    struct Form {
        unsigned first, last;  // of the first byte
        unsigned second_from,
            second_to;  // leaves out control characters, overlong forms, surrogates
        std::size_t length;
    };
    static constexpr std::array<Form, 9> kForms{{{0xc2, 0xc2, 0xa0, 0xbf, 2},
                                                 {0xc3, 0xdf, 0x80, 0xbf, 2},
                                                 {0xe0, 0xe0, 0xa0, 0xbf, 3},
                                                 {0xe1, 0xec, 0x80, 0xbf, 3},
                                                 {0xed, 0xed, 0x80, 0x9f, 3},
                                                 {0xee, 0xef, 0x80, 0xbf, 3},
                                                 {0xf0, 0xf0, 0x90, 0xbf, 4},
                                                 {0xf1, 0xf3, 0x80, 0xbf, 4},
                                                 {0xf4, 0xf4, 0x80, 0x8f, 4}}};
    for (const Form& form : kForms) {
        if (first < form.first || first > form.last) {
            continue;
        }
        if (byte(1) < form.second_from || byte(1) > form.second_to) {
            return 0;
        }
        for (std::size_t k = 2; k < form.length; ++k) {
            if (byte(k) < 0x80 || byte(k) > 0xbf) {
                return 0;
            }
        }
        return form.length;
    }
    return 0;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string line;
    line.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        if (const std::size_t length = character_at(text, at); length != 0) {
            line += text.substr(at, length);
            at += length;
        } else {
            line += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at++]));
        }
    }
    return line;
}

std::string strange_byte(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t length = text[at] == '\t' ? 1 : character_at(text, at);
        if (length == 0) {
            return fmt::format("0x{:02x}", static_cast<unsigned char>(text[at]));
        }
        at += length;
    }
    return {};
}

std::string shortened(std::string_view text, std::size_t most) {
    if (text.size() <= most) {
        return std::string(text);
    }
    std::size_t end = 0;
    for (;;) {
        const std::size_t length = std::max<std::size_t>(character_at(text, end), 1);
        if (end + length > most) {
            break;
        }
        end += length;
    }
    return std::string(text.substr(0, end)) + "...";
}

}  // namespace mempoold
