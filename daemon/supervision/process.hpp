// What the kernel tells about another process: alive, since when, which memory it maps.
//
// Used where a client attaches and by the supervisor. Never signals or traces anybody.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "mempool/shm/unique_fd.hpp"

namespace mempoold {

using mempool::shm::UniqueFd;

/// A pidfd of `pid`; empty with errno set if there is none to be had (ESRCH: no such process).
UniqueFd open_pidfd(pid_t pid) noexcept;

/// Whether the process behind `pidfd` has ended (it may be a zombie still).
bool has_ended(int pidfd) noexcept;

/// When `pid` started, in clock ticks after boot (field 22 of /proc/PID/stat); nullopt if that is
/// not to be read.
std::optional<std::uint64_t> start_time(pid_t pid);

/// The present moment on start_time()'s scale.
std::uint64_t ticks_since_boot() noexcept;

/// /proc/PID/comm, empty if that is not to be read.
std::string command_of(pid_t pid);

enum class Mapping : std::uint8_t {
    kPresent,
    kAbsent,   ///< the process maps other files but not this one: it exec'd, or unmapped it
    kUnknown,  ///< /proc/PID/maps is not to be read, or empty, as it is while a process ends
};

/// Whether `pid` maps the file with that device and inode.
Mapping find_mapping(pid_t pid, dev_t device, ino_t inode);

}  // namespace mempoold
