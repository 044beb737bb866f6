// A named object that a backing has judged to be its own, and what may be done with its names.
//
// Made and used by NamedBacking alone, under the lock that makes it the owner: of the runtime
// directory for what the index knows, else of the object itself.
#pragma once

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "daemon/storage/shm_object.hpp"
#include "mempool/shm/words/pool_index.hpp"

namespace mempoold {

/// One object of ours, under the name it has or had. The one type that renames and removes objects.
class HeldObject {
public:
    HeldObject(std::string name, std::uint64_t random, UniqueFd file)
        : name_(std::move(name)), random_(random), file_(std::move(file)) {}

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::uint64_t random() const noexcept { return random_; }
    [[nodiscard]] int file() const noexcept { return file_.get(); }
    [[nodiscard]] UniqueFd take_file() && { return std::move(file_); }
    [[nodiscard]] bool is(int fd) const noexcept { return same_file(file(), fd); }
    [[nodiscard]] bool named() const noexcept { return still_named(name_, file()); }
    [[nodiscard]] UniqueFd open(bool writable) const {
        return reopen(file(), writable, path_of(name_));
    }
    [[nodiscard]] mempool::shm::IndexedObject indexed() const {
        const struct stat status = status_of(file());
        return {.random = random_, .device = status.st_dev, .inode = status.st_ino};
    }

    // Each does nothing to what stands under the name by now if that is another file.
    void remove() const noexcept {
        if (named()) {
            ::unlink(path_of(name_).c_str());
        }
    }
    void remove_link(const std::string& other) const noexcept {
        if (still_named(other, file())) {
            ::unlink(path_of(other).c_str());
        }
    }
    // 0 or errno.
    [[nodiscard]] int rename(const std::string& to) {
        if (named() && ::renameat2(AT_FDCWD, path_of(name_).c_str(), AT_FDCWD, path_of(to).c_str(),
                                   RENAME_NOREPLACE) != 0) {
            return errno;
        }
        name_ = to;
        return 0;
    }
    // Gives the file one name more; 0 or errno.
    [[nodiscard]] int link(const std::string& to) const noexcept {
        const std::string from = fmt::format("/proc/self/fd/{}", file());
        return ::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path_of(to).c_str(), AT_SYMLINK_FOLLOW) ==
                       0
                   ? 0
                   : errno;
    }

private:
    std::string name_;
    std::uint64_t random_;
    UniqueFd file_;  // perhaps O_PATH
};

}  // namespace mempoold
