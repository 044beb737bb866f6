// Named objects in /dev/shm: making, opening, renaming and removing them.
//
// Used by the storage of pools. Names are as shm_open(3) takes them: a slash and a file name. Never
// follows a symbolic link, never maps anything. Errors are std::system_error.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/shm/create.hpp"
#include "mempool/shm/unique_fd.hpp"

namespace mempoold {

using mempool::shm::FileRange;
using mempool::shm::UniqueFd;

/// Makes a new object, readable and writable by its owner alone; EEXIST if the name is taken.
UniqueFd create_object(const std::string& name);

/// Opens an object; empty if there is none.
UniqueFd open_object(const std::string& name, bool writable);

/// Removes an object; false if there was none.
bool remove_object(const std::string& name);

/// Gives an object another name; EEXIST if that is taken.
void rename_object(const std::string& from, const std::string& to);

/// Puts memory behind `range`, so that no access to it can fail: 0 or errno.
int allocate(int fd, FileRange range) noexcept;
/// Gives the memory behind `range` back; it reads as zeros then.
void deallocate(int fd, FileRange range) noexcept;

struct stat status_of(int fd);
/// Whether `name` still stands for the file behind `fd`.
bool still_named(const std::string& name, int fd) noexcept;

/// Reads or writes all of `bytes` at `offset`: 0 or errno, EIO where the file ends before.
int read_at(int fd, void* to, std::size_t bytes, std::uint64_t offset) noexcept;
int write_zeros(int fd, std::uint64_t bytes, std::uint64_t offset) noexcept;

/// Takes the lock by which two daemons never serve one object. Throws EBUSY if another holds it.
void lock_object(int fd, const std::string& object);

/// Whether every byte of `record` is zero.
template <typename Record>
bool is_zero(const Record& record) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&record);
    return std::all_of(bytes, bytes + sizeof(record), [](unsigned char b) { return b == 0; });
}

/// Numbers of the segments of `pool` that have an object, ascending; 0 is the pool's first.
std::vector<std::uint32_t> list_segments(std::string_view pool);

/// Size of /dev/shm and what is free of it, in bytes; zeros if that is not to be had.
struct Space {
    std::uint64_t size = 0;
    std::uint64_t free = 0;
};
Space shm_space() noexcept;

/// Renames segment `number` of `pool` (0: all its segments) to mempool.NAME.aside-TIME[.k]; `now`
/// in seconds since the epoch. The name of the first that was renamed.
std::string set_aside(const std::string& pool, std::uint32_t number, std::uint64_t now);

}  // namespace mempoold
