// How much memory the control groups of this process still allow it.
//
// Used before and while segments are allocated. posix_fallocate(3) on tmpfs heeds the file system's
// size and not the caller's group: what goes over the group's limit ends in the OOM killer. Reads
// version 2 and version 1, the process's own group and those above it, as far as they can be seen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mempoold {

/// The tightest of the limits.
struct MemoryRoom {
    std::uint64_t bytes = 0;  ///< that may still be used
    std::string limit;        ///< the file that says so
};

class MemoryLimit {
public:
    /// Finds the groups of the process that `process` (a directory as /proc/self) describes. None
    /// if they cannot be read. Throws nothing but std::bad_alloc.
    explicit MemoryLimit(const std::string& process = "/proc/self");

    /// Reads what is left now; nullopt if nothing limits it. What the kernel would give up first,
    /// the cache of files, counts as left. Any thread.
    [[nodiscard]] std::optional<MemoryRoom> room() const;

private:
    struct Group {
        std::string path;
        bool unified = false;  ///< version 2
    };
    std::vector<Group> groups_;
};

}  // namespace mempoold
