// The index of a runtime directory: which objects are the pools' of the daemon that works there.
//
// Written by the daemon alone, as the file `pools` (see mempoold(8)); read by the daemon at its
// start, and by libmempool's inspector where no daemon answers. Text, so that people can read it.
// No system calls here, and no trust: whoever reads the file checks first whose it is.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempool::shm {

/// Name of the index in the runtime directory, and of the directory that only the daemon's user
/// enters.
constexpr const char* kIndexFile = "pools";
constexpr const char* kPrivateDirectory = "private";
constexpr std::string_view kIndexTitle = "mempool-index 1";
/// No index of sound pools is larger.
constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{64} << 20U;

using Uuid = std::array<std::uint8_t, 16>;

/// One segment's object.
struct IndexedObject {
    std::uint64_t random = 0;  ///< see object_name()
    std::uint64_t device = 0;  ///< 0, and the inode too: it is being made
    std::uint64_t inode = 0;

    friend bool operator==(const IndexedObject&, const IndexedObject&) = default;
};

struct IndexedPool {
    Uuid uuid{};  ///< zeros: it is being made, and nobody could have used it
    std::map<std::uint32_t, IndexedObject> objects;  ///< by number of the segment

    [[nodiscard]] bool finished() const noexcept { return uuid != Uuid{}; }
};

/// A file that stood for a pool and could not be served.
struct AsideNote {
    std::string object;  ///< file in /dev/shm
    std::string reason;
};

/// Of which layout a pool was made, be it named or of memfds: what its header says, its clients
/// could have written. Releases with layout version 2 wrote no such note.
struct LayoutNote {
    std::uint32_t version = 0;
    std::uint64_t device = 0;  ///< and inode, of its first segment
    std::uint64_t inode = 0;

    friend bool operator==(const LayoutNote&, const LayoutNote&) = default;
};

struct PoolIndex {
    std::map<std::string, IndexedPool, std::less<>> pools;
    std::map<std::string, LayoutNote, std::less<>> layouts;  ///< by pool
    std::vector<AsideNote> aside;
};

namespace detail {

inline std::string hex_of(const Uuid& uuid) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : uuid) {
        text += kDigits[byte >> 4U];
        text += kDigits[byte & 15U];
    }
    return text;
}

template <typename Number>
bool parse_whole(std::string_view text, Number& number, int base = 10) noexcept {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number, base);
    return !text.empty() && result.ec == std::errc{} && result.ptr == text.data() + text.size();
}

inline bool parse_uuid(std::string_view text, Uuid& uuid) noexcept {
    if (text.size() != 2 * uuid.size()) {
        return false;
    }
    for (std::size_t k = 0; k < uuid.size(); ++k) {
        if (!parse_whole(text.substr(2 * k, 2), uuid[k], 16)) {
            return false;
        }
    }
    return true;
}

/// Cuts the first word off `line`.
inline std::string_view take_word(std::string_view& line) noexcept {
    const std::size_t end = line.find(' ');
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
    return word;
}

}  // namespace detail

/// The text of `index`:
///   mempool-index 1
///   segment POOL NUMBER OBJECT DEVICE INODE UUID
///   layout POOL VERSION DEVICE INODE
///   aside OBJECT REASON…
inline std::string format_index(const PoolIndex& index) {
    std::string text(kIndexTitle);
    text += '\n';
    for (const auto& [name, pool] : index.pools) {
        for (const auto& [number, object] : pool.objects) {
            text += "segment " + name + ' ' + std::to_string(number) + ' ' +
                    object_name(name, number, object.random).substr(1) + ' ' +
                    std::to_string(object.device) + ' ' + std::to_string(object.inode) + ' ' +
                    detail::hex_of(pool.uuid) + '\n';
        }
    }
    for (const auto& [name, note] : index.layouts) {
        text += "layout " + name + ' ' + std::to_string(note.version) + ' ' +
                std::to_string(note.device) + ' ' + std::to_string(note.inode) + '\n';
    }
    for (const AsideNote& note : index.aside) {
        text += "aside " + note.object + ' ';
        for (const char c : note.reason) {
            text += c == '\n' ? ' ' : c;
        }
        text += '\n';
    }
    return text;
}

/// What `text` says; lines that make no sense are left out and counted in `bad_lines`.
inline PoolIndex parse_index(std::string_view text, std::uint32_t& bad_lines) {
    PoolIndex index;
    bad_lines = 0;
    bool titled = false;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (!titled) {
            titled = line == kIndexTitle;
            if (!titled) {
                ++bad_lines;
                return index;  // of another release, or no index at all
            }
            continue;
        }
        const std::string_view kind = detail::take_word(line);
        if (kind == "aside") {
            const std::string_view object = detail::take_word(line);
            index.aside.push_back({std::string(object), std::string(line)});
            continue;
        }
        const std::string_view name = detail::take_word(line);
        if (kind == "layout") {
            LayoutNote note;
            if (check_pool_name(name).empty() &&
                detail::parse_whole(detail::take_word(line), note.version) &&
                detail::parse_whole(detail::take_word(line), note.device) &&
                detail::parse_whole(line, note.inode)) {
                index.layouts[std::string(name)] = note;
            } else {
                ++bad_lines;
            }
            continue;
        }
        std::uint32_t number = 0;
        const bool numbered = detail::parse_whole(detail::take_word(line), number);
        const std::string_view file = detail::take_word(line);
        IndexedObject object;
        Uuid uuid{};
        bool sound =
            kind == "segment" && numbered && number < kMaxSegments && check_pool_name(name).empty();
        if (sound && file != object_name(name, number).substr(1)) {
            const std::size_t dot = file.rfind('.');
            sound = dot != std::string_view::npos &&
                    detail::parse_whole(file.substr(dot + 1), object.random, 16) &&
                    object.random != 0 &&
                    file == object_name(name, number, object.random).substr(1);
        }
        sound = sound && detail::parse_whole(detail::take_word(line), object.device) &&
                detail::parse_whole(detail::take_word(line), object.inode) &&
                detail::parse_uuid(line, uuid);
        if (!sound) {
            ++bad_lines;
            continue;
        }
        IndexedPool& pool = index.pools[std::string(name)];
        pool.uuid = uuid;
        pool.objects[number] = object;
    }
    return index;
}

}  // namespace mempool::shm
