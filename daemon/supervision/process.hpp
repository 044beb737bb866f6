// Which process a client is, and what the kernel tells about it: alive, since when, what it maps.
//
// Used where a client attaches and by the supervisor. Never signals or traces anybody. A pid, a
// start time and /proc are each true in one namespace only: what comes from another one says
// nothing, and then the answer is "unknown", never "dead".
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

using mempool::shm::UniqueFd;

/// A process as it can be told from every other one. Zeros: unknown.
struct ProcessId {
    pid_t pid = 0;  ///< in `pid_namespace`
    /// Inode of its pidfd where `time_namespace` is 0; else when it started, in clock ticks after
    /// boot as they are counted in that namespace.
    std::uint64_t key = 0;
    std::uint32_t pid_namespace = 0;   ///< inode of the namespace
    std::uint32_t time_namespace = 0;  ///< inode of the namespace

    friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

/// A pidfd of `pid`; empty with errno set if there is none to be had (ESRCH: no such process).
UniqueFd open_pidfd(pid_t pid) noexcept;

/// Whether the process of `pidfd` has ended (it may be a zombie still).
bool has_ended(int pidfd) noexcept;

/// The id of the process of `pidfd`, which has the number `pid` in this daemon's namespace (0: it
/// has none there).
ProcessId identify(int pidfd, pid_t pid);

/// Whether the process of `pidfd` may be `id`: false only where both have a pidfs inode, and two.
bool may_be(int pidfd, const ProcessId& id) noexcept;

/// What is known about a process that was written down, perhaps by a former daemon elsewhere.
enum class Fate : std::uint8_t { kAlive, kDead, kUnknown };

/// Judges the process `id`. kAlive: `pidfd` is of it. kDead: it certainly has ended. kUnknown: its
/// numbers are another namespace's, or the kernel does not say.
Fate judge(const ProcessId& id, UniqueFd& pidfd);

/// When `pid` started, in clock ticks after boot (field 22 of /proc/PID/stat); nullopt if that
/// cannot be read, or /proc is another pid namespace's.
std::optional<std::uint64_t> start_time(pid_t pid);

/// The present moment on start_time()'s scale.
std::uint64_t ticks_since_boot() noexcept;

/// /proc/PID/comm, empty if that cannot be read.
std::string command_of(pid_t pid);

enum class Mapping : std::uint8_t {
    kPresent,
    kAbsent,   ///< the process maps other files but not this one: it exec'd, or unmapped it
    kUnknown,  ///< /proc/PID/maps cannot be read to its end, or is empty, as while a process ends
};

/// A file, and where in a process it is mapped if it is.
struct MappedFile {
    dev_t device = 0;
    ino_t inode = 0;
    std::uint64_t address = 0;  ///< of its first byte; 0: anywhere
};

/// Whether the process of `pidfd`, `id`, maps `file`. Reads at most
/// 16 MiB and for at most a quarter of a second: a process that maps while it is read need not come
/// to an end. For a worker thread: it may take that long.
Mapping find_mapping(int pidfd, const ProcessId& id, const MappedFile& file);

}  // namespace mempoold
