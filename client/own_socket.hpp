// A socket of the library's own in a program that may close descriptors it doesn't know.
//
// Used by Connection. A program may call closefrom(3), and what it opens next gets the number that
// our socket had. So the socket is known again by its inode before each use, and a number that
// leads to something else is forgotten, never read, written or closed. Numbers 0 to 2 are left to
// the program: whoever prints to stderr must not print into a socket.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "no_cancellation.hpp"

namespace mempool::detail {

/// The same open file as `fd`, which was opened just now, under a number above 2. -1, with errno
/// set, if there is none: then `fd` is closed.
[[nodiscard]] inline int above_stdio(int fd) noexcept {
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    const NoCancellation guard;
    const int higher = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    const int error = errno;
    ::close(fd);
    errno = error;
    return higher;
}

/// Not thread-safe: the owner locks. What another thread closes between a check and the use of the
/// number can't be seen; nobody can do better.
class OwnSocket {
public:
    OwnSocket() = default;
    /// Takes over a socket that was made just now; empty, with errno set, if it can't be kept.
    explicit OwnSocket(int fd) noexcept : fd_(above_stdio(fd)) {
        struct stat made {};
        if (fd_ >= 0 && ::fstat(fd_, &made) == 0) {
            device_ = made.st_dev;
            inode_ = made.st_ino;
        }
    }
    OwnSocket(OwnSocket&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), device_(other.device_), inode_(other.inode_) {}
    OwnSocket& operator=(OwnSocket&& other) noexcept {
        if (this != &other) {
            close();
            fd_ = std::exchange(other.fd_, -1);
            device_ = other.device_;
            inode_ = other.inode_;
        }
        return *this;
    }
    OwnSocket(const OwnSocket&) = delete;
    OwnSocket& operator=(const OwnSocket&) = delete;
    ~OwnSocket() { close(); }

    /// The descriptor; -1 if there is none, or if its number leads to something else by now.
    [[nodiscard]] int get() noexcept {
        struct stat now {};
        if (fd_ >= 0 &&
            (::fstat(fd_, &now) != 0 || now.st_dev != device_ || now.st_ino != inode_)) {
            fd_ = -1;
        }
        return fd_;
    }
    explicit operator bool() noexcept { return get() >= 0; }

    void close() noexcept {
        if (const int fd = get(); fd >= 0) {
            const NoCancellation guard;
            ::close(fd);
        }
        fd_ = -1;
    }

private:
    int fd_ = -1;
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

}  // namespace mempool::detail
