#include "daemon/storage/shm_object.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/interprocess/permissions.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "daemon/base/fail.hpp"
#include "mempool/shm/names.hpp"

namespace mempoold {

namespace {

namespace ipc = boost::interprocess;
namespace shm = mempool::shm;

constexpr const char* kDirectory = "/dev/shm";

std::string path_of(const std::string& name) { return kDirectory + name; }

}  // namespace

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

UniqueFd open_object(const std::string& name, bool writable) {
    UniqueFd fd{::shm_open(name.c_str(), writable ? O_RDWR : O_RDONLY, 0)};
    if (!fd && errno != ENOENT) {
        fail(errno, "cannot open " + path_of(name));
    }
    return fd;
}

bool remove_object(const std::string& name) {
    return ipc::shared_memory_object::remove(name.c_str());
}

void rename_object(const std::string& from, const std::string& to) {
    if (::renameat2(AT_FDCWD, path_of(from).c_str(), AT_FDCWD, path_of(to).c_str(),
                    RENAME_NOREPLACE) != 0) {
        fail(errno, "cannot rename " + path_of(from) + " to " + path_of(to));
    }
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

std::vector<std::uint32_t> list_segments(std::string_view pool) {
    const std::string first = shm::object_name(pool, 0).substr(1);
    std::vector<std::uint32_t> numbers;
    for (const auto& entry : std::filesystem::directory_iterator(kDirectory)) {
        const std::string file = entry.path().filename().string();
        if (file == first) {
            numbers.push_back(0);
        } else if (file.rfind(first + ".", 0) == 0) {
            std::uint32_t number = 0;
            const char* end = file.data() + file.size();
            const auto result = std::from_chars(file.data() + first.size() + 1, end, number);
            if (result.ec == std::errc{} && result.ptr == end && number != 0 &&
                file == shm::object_name(pool, number).substr(1)) {
                numbers.push_back(number);
            }
        }
    }
    std::sort(numbers.begin(), numbers.end());
    return numbers;
}

void lock_object(int fd, const std::string& object) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return;
    }
    if (errno == EWOULDBLOCK) {
        fail(EBUSY, fmt::format("/dev/shm{} is served by another mempoold: end that one, or use "
                                "another pool name",
                                object));
    }
    fail(errno, "flock /dev/shm" + object);
}

Space shm_space() noexcept {
    struct statvfs status {};
    if (::statvfs(kDirectory, &status) != 0) {
        return {};
    }
    return {status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize};
}

std::string set_aside(const std::string& pool, std::uint32_t number, std::uint64_t now) {
    const auto seconds = static_cast<std::time_t>(now);
    std::tm utc{};
    ::gmtime_r(&seconds, &utc);
    std::array<char, 32> stamp{};
    std::strftime(stamp.data(), stamp.size(), "%Y%m%dT%H%M%S", &utc);
    const std::string base = shm::object_name(pool, 0) + ".aside-" + stamp.data();
    const auto rename = [&](std::uint32_t k, const std::string& to) {
        rename_object(shm::object_name(pool, k), k == 0 ? to : to + "." + std::to_string(k));
    };
    std::string to = base;
    for (int attempt = 2;; ++attempt) {
        try {
            rename(number, to);
            break;
        } catch (const std::system_error& e) {
            if (e.code() != std::errc::file_exists || attempt > 100) {
                throw;
            }
            to = fmt::format("{}-{}", base, attempt);
        }
    }
    if (number == 0) {
        for (const std::uint32_t k : list_segments(pool)) {
            rename(k, to);
        }
        return to;
    }
    return to + "." + std::to_string(number);
}

}  // namespace mempoold
