#include "daemon/storage/memory_limit.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

namespace {

/// Figures from here on mean "no limit".
constexpr std::uint64_t kUnlimited = std::uint64_t{1} << 60U;

// Empty if it cannot be read.
std::string read_text(const std::string& path) {
    std::string text;
    const mempool::shm::UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    std::array<char, 4096> part{};
    while (fd) {
        const ssize_t got = ::read(fd.get(), part.data(), part.size());
        if (got > 0) {
            text.append(part.data(), static_cast<std::size_t>(got));
        } else if (got == 0 || errno != EINTR) {
            break;
        }
    }
    return text;
}

// The part of `text` before the next `separator`, which is cut off it.
std::string_view first_field(std::string_view& text, char separator) {
    const std::size_t end = std::min(text.find(separator), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return part;
}

std::optional<std::uint64_t> number_in(std::string_view text) {
    std::uint64_t number = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    return result.ec == std::errc{} ? std::optional(number) : std::nullopt;
}

bool names(std::string_view list, std::string_view wanted) {
    while (!list.empty()) {
        if (first_field(list, ',') == wanted) {
            return true;
        }
    }
    return false;
}

// The value of `key` in a file of lines "key value"; 0 if it has none.
std::uint64_t value_of(std::string_view text, std::string_view key) {
    while (!text.empty()) {
        std::string_view line = first_field(text, '\n');
        if (first_field(line, ' ') == key) {
            return number_in(line).value_or(0);
        }
    }
    return 0;
}

struct Mount {
    std::string root;
    std::string point;
    bool unified = false;
};

// Where memory groups are mounted: see proc_pid_mountinfo(5).
std::vector<Mount> memory_mounts(std::string_view mountinfo) {
    std::vector<Mount> found;
    while (!mountinfo.empty()) {
        std::string_view line = first_field(mountinfo, '\n');
        const std::size_t dash = line.find(" - ");
        if (dash == std::string_view::npos) {
            continue;
        }
        std::string_view rest = line.substr(dash + 3);
        const std::string_view type = first_field(rest, ' ');
        first_field(rest, ' ');  // the source
        if (type != "cgroup2" && (type != "cgroup" || !names(rest, "memory"))) {
            continue;
        }
        for (int k = 0; k < 3; ++k) {
            first_field(line, ' ');  // numbers
        }
        const std::string_view root = first_field(line, ' ');
        found.push_back(
            {std::string(root), std::string(first_field(line, ' ')), type == "cgroup2"});
    }
    return found;
}

// The process's group in that hierarchy, as /proc/PID/cgroup names it.
std::optional<std::string> group_in(std::string_view groups, bool unified) {
    while (!groups.empty()) {
        std::string_view line = first_field(groups, '\n');
        const std::string_view id = first_field(line, ':');
        const std::string_view controllers = first_field(line, ':');
        if (unified ? id == "0" && controllers.empty() : names(controllers, "memory")) {
            return std::string(line);
        }
    }
    return std::nullopt;
}

}  // namespace

MemoryLimit::MemoryLimit(const std::string& process) {
    const std::string groups = read_text(process + "/cgroup");
    for (const Mount& mount : memory_mounts(read_text(process + "/mountinfo"))) {
        const auto group = group_in(groups, mount.unified);
        if (!group) {
            continue;
        }
        // A container often sees its own group as the root of what is mounted.
        std::string below = *group;
        if (mount.root != "/") {
            const bool inside =
                below.starts_with(mount.root) &&
                (below.size() == mount.root.size() || below[mount.root.size()] == '/');
            below = inside ? below.substr(mount.root.size()) : "";
        }
        if (below.find("/..") != std::string::npos) {
            below.clear();  // above what this namespace shows
        }
        while (!below.empty() && below != "/") {
            groups_.push_back({mount.point + below, mount.unified});
            below.resize(below.rfind('/'));
        }
        groups_.push_back({mount.point, mount.unified});
    }
}

std::optional<MemoryRoom> MemoryLimit::room() const {
    std::optional<MemoryRoom> tightest;
    for (const Group& group : groups_) {
        const auto used = number_in(
            read_text(group.path + (group.unified ? "/memory.current" : "/memory.usage_in_bytes")));
        if (!used) {
            continue;  // the root of version 2 has none
        }
        static constexpr std::array<const char*, 2> kUnified{"/memory.max", "/memory.high"};
        static constexpr std::array<const char*, 1> kFormer{"/memory.limit_in_bytes"};
        const auto look = [&](const char* name) {
            const auto limit = number_in(read_text(group.path + name));
            if (!limit || *limit >= kUnlimited) {
                return;
            }
            const std::string stat = read_text(group.path + "/memory.stat");
            const char* prefix = group.unified ? "" : "total_";
            const std::uint64_t cache = value_of(stat, std::string(prefix) + "inactive_file") +
                                        value_of(stat, std::string(prefix) + "active_file");
            const std::uint64_t fixed = *used - std::min(*used, cache);
            const std::uint64_t left = *limit - std::min(*limit, fixed);
            if (!tightest || left < tightest->bytes) {
                tightest = {left, group.path + name};
            }
        };
        if (group.unified) {
            std::for_each(kUnified.begin(), kUnified.end(), look);
        } else {
            std::for_each(kFormer.begin(), kFormer.end(), look);
        }
    }
    return tightest;
}

}  // namespace mempoold
