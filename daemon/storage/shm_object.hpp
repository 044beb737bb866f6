// Shared-memory objects as files: looking at them, opening, reading, giving them memory.
//
// Used by the storage of pools. Names are as shm_open(3) takes them: a slash and a file name. Never
// follows a symbolic link, never maps anything, and never renames or removes: that is for the
// backing alone, which has the lock. Errors are std::system_error.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

using mempool::shm::FileRange;
using mempool::shm::UniqueFd;

/// Makes a new object, readable and writable by its owner alone; EEXIST if the name is taken.
UniqueFd create_object(const std::string& name);

/// The path of an object in the file system.
std::string path_of(const std::string& name);

/// A descriptor that only shows which file stands under the name (O_PATH), whatever it is: opens no
/// device, waits for no FIFO, breaks no lease. Empty if there is none.
UniqueFd look_at_object(const std::string& name);

/// Opens the regular file behind `fd` once more, with an open file description of its own. `shown`
/// names it in messages.
UniqueFd reopen(int fd, bool writable, const std::string& shown);

/// Puts memory behind `range`, so that no access to it can fail: 0 or errno.
int allocate(int fd, FileRange range) noexcept;
/// Gives the memory behind `range` back; it reads as zeros then.
void deallocate(int fd, FileRange range) noexcept;

struct stat status_of(int fd);
/// Whether the two descriptors are of one file.
bool same_file(int a, int b) noexcept;
/// Whether `name` stands for the file behind `fd`.
bool still_named(const std::string& name, int fd) noexcept;

/// Reads or writes all of `bytes` at `offset`: 0 or errno, EIO where the file ends before.
int read_at(int fd, void* to, std::size_t bytes, std::uint64_t offset) noexcept;
int write_zeros(int fd, std::uint64_t bytes, std::uint64_t offset) noexcept;

/// Size of /dev/shm and what is free of it, in bytes; zeros if that is not to be had.
struct Space {
    std::uint64_t size = 0;
    std::uint64_t free = 0;
};
Space shm_space() noexcept;

}  // namespace mempoold
