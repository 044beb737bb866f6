#include "daemon/storage/shm_object.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/interprocess/permissions.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cerrno>
#include <system_error>

#include "daemon/base/fail.hpp"

namespace mempoold {

namespace {

namespace ipc = boost::interprocess;

constexpr const char* kDirectory = "/dev/shm";

}  // namespace

std::string path_of(const std::string& name) { return kDirectory + name; }

UniqueFd create_object(const std::string& name) {
    try {
        const ipc::shared_memory_object object(ipc::create_only, name.c_str(), ipc::read_write,
                                               ipc::permissions(0600));
        UniqueFd fd{::fcntl(object.get_mapping_handle().handle, F_DUPFD_CLOEXEC, 3)};
        if (!fd) {
            fail(errno, "cannot keep " + path_of(name) + " open");
        }
        return fd;
    } catch (const ipc::interprocess_exception& e) {
        fail(e.get_native_error(), "cannot create " + path_of(name));
    }
}

UniqueFd look_at_object(const std::string& name) {
    UniqueFd fd{::open(path_of(name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!fd && errno != ENOENT) {
        fail(errno, "cannot look at " + path_of(name));
    }
    return fd;
}

UniqueFd reopen(int fd, bool writable, const std::string& shown) {
    if (!S_ISREG(status_of(fd).st_mode)) {
        fail(EINVAL, shown + " is not a regular file");
    }
    const std::string path = fmt::format("/proc/self/fd/{}", fd);
    UniqueFd again{::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC)};
    if (!again) {
        fail(errno, fmt::format("cannot open {} by {}", shown, path));
    }
    return again;
}

int allocate(int fd, FileRange range) noexcept {
    int error = 0;
    do {
        error = ::posix_fallocate(fd, static_cast<off_t>(range.offset),
                                  static_cast<off_t>(range.bytes));
    } while (error == EINTR);
    return error;
}

void deallocate(int fd, FileRange range) noexcept {
    ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range.offset),
                static_cast<off_t>(range.bytes));
}

struct stat status_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        fail(errno, "fstat");
    }
    return status;
}

bool same_file(int a, int b) noexcept {
    struct stat one {};
    struct stat other {};
    return ::fstat(a, &one) == 0 && ::fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

bool still_named(const std::string& name, int fd) noexcept {
    struct stat named {};
    struct stat opened {};
    return ::lstat(path_of(name).c_str(), &named) == 0 && ::fstat(fd, &opened) == 0 &&
           named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

int read_at(int fd, void* to, std::size_t bytes, std::uint64_t offset) noexcept {
    auto* at = static_cast<char*>(to);
    while (bytes > 0) {
        const ssize_t got = ::pread(fd, at, bytes, static_cast<off_t>(offset));
        if (got == 0) {
            return EIO;
        }
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno;
        }
        at += got;
        bytes -= static_cast<std::size_t>(got);
        offset += static_cast<std::uint64_t>(got);
    }
    return 0;
}

int write_zeros(int fd, std::uint64_t bytes, std::uint64_t offset) noexcept {
    static constexpr std::array<char, 65536> kZeros{};
    while (bytes > 0) {
        const ssize_t put =
            ::pwrite(fd, kZeros.data(), std::min<std::uint64_t>(bytes, kZeros.size()),
                     static_cast<off_t>(offset));
        if (put < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno;
        }
        bytes -= static_cast<std::uint64_t>(put);
        offset += static_cast<std::uint64_t>(put);
    }
    return 0;
}

Space shm_space() noexcept {
    struct statvfs status {};
    if (::statvfs(kDirectory, &status) != 0) {
        return {};
    }
    return {status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize};
}

}  // namespace mempoold
