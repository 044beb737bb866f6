#include "daemon/storage/runtime_directory.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/shm_object.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

constexpr const char* kNewIndex = "private/pools.new";
constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr mode_t kOthersMayWrite = S_IWGRP | S_IWOTH;

// Opens directory `name` below `at`, or makes it with `mode`, which no umask takes from; `made`
// tells.
UniqueFd open_or_make(int at, const std::string& name, mode_t mode, const std::string& shown,
                      bool& made) {
    if (::mkdirat(at, name.c_str(), mode) == 0) {
        made = true;
    } else if (errno != EEXIST) {
        const int error = errno;
        fail(error, "cannot make the runtime directory " + shown +
                        (error == ENOENT ? " (make the directory that it is in, or choose another "
                                           "path with --socket)"
                                         : " (choose another place with --socket, or by "
                                           "RUNTIME_DIRECTORY)"));
    }
    UniqueFd fd{::openat(at, name.c_str(), kDirectoryFlags)};
    if (!fd && errno == ENOENT) {
        return fd;  // another daemon has removed it meanwhile
    }
    if (!fd) {
        fail(errno, "cannot open the runtime directory " + shown +
                        ": move away what is there, or choose another place with --socket");
    }
    const struct stat status = status_of(fd.get());
    if (status.st_uid != ::geteuid()) {
        throw std::runtime_error(
            fmt::format("the runtime directory {} belongs to uid {}: another user's mempoold works "
                        "there or did; choose another path with --socket, or remove it as that "
                        "user",
                        shown, status.st_uid));
    }
    if (made && ::fchmod(fd.get(), mode) != 0) {
        fail(errno, "cannot set the mode of " + shown);
    }
    if (!made && (status.st_mode & (mode == 0700 ? S_IRWXG | S_IRWXO : kOthersMayWrite)) != 0) {
        throw std::runtime_error(
            fmt::format("the runtime directory {} is open to others (mode {:o}): chmod {:o} it, "
                        "or choose another place with --socket",
                        shown, status.st_mode & 07777U, mode));
    }
    return fd;
}

}  // namespace

RuntimeDirectory::RuntimeDirectory(std::string path) : path_(std::move(path)) {
    // A daemon that ends with --remove-on-exit may remove what we have just opened.
    for (int attempt = 0; attempt < 10; ++attempt) {
        if (open_directories()) {
            read();
            return;
        }
    }
    throw std::runtime_error("the runtime directory " + path_ +
                             " comes and goes: is another mempoold starting and ending there?");
}

// False if it went away meanwhile.
bool RuntimeDirectory::open_directories() {
    directory_ = open_or_make(AT_FDCWD, path_, 0755, path_, made_);
    if (!directory_) {
        return false;
    }
    bool made = false;
    try {
        private_ = open_or_make(directory_.get(), shm::kPrivateDirectory, 0700,
                                path_ + '/' + shm::kPrivateDirectory, made);
    } catch (const std::system_error& e) {
        if (e.code() == std::errc::no_such_file_or_directory) {
            return false;
        }
        throw;
    }
    if (!private_) {
        return false;
    }
    lock();
    const struct stat held = status_of(private_.get());
    identity_ = {held.st_dev, held.st_ino};
    return is_in_place();
}

bool RuntimeDirectory::is_in_place() const noexcept {
    struct stat named {};
    const std::string name = path_ + '/' + shm::kPrivateDirectory;
    return ::lstat(name.c_str(), &named) == 0 &&
           identity_ == std::pair<std::uint64_t, std::uint64_t>(named.st_dev, named.st_ino);
}

void RuntimeDirectory::mend() {
    if (!is_in_place()) {
        RuntimeDirectory other(path_);
        directory_ = std::move(other.directory_);
        private_ = std::move(other.private_);
        identity_ = other.identity_;
        made_ = made_ || other.made_;
        // Another daemon may have come and gone there: what it left is this one's now.
        index_.pools.merge(other.index_.pools);
        index_.layouts.merge(other.index_.layouts);
        index_.aside.insert(index_.aside.end(), other.index_.aside.begin(),
                            other.index_.aside.end());
        write(index_);
        log_warning("the runtime directory {} was removed by somebody; it is there again", path_);
    } else if (::faccessat(directory_.get(), shm::kIndexFile, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
               errno == ENOENT && !(index_.pools.empty() && index_.layouts.empty())) {
        write(index_);
        log_warning("{}/{} was removed by somebody; it is there again", path_, shm::kIndexFile);
    }
}

void RuntimeDirectory::lock() {
    if (::flock(private_.get(), LOCK_EX | LOCK_NB) == 0) {
        return;
    }
    if (errno != EWOULDBLOCK) {
        fail(errno, "cannot lock " + path_ + '/' + shm::kPrivateDirectory);
    }
    const struct stat status = status_of(private_.get());
    const auto holder = holder_of_lock(status.st_dev, status.st_ino);
    throw std::runtime_error(
        fmt::format("another mempoold (pid {}) serves {}: end it, or choose another path with "
                    "--socket",
                    holder ? std::to_string(holder->pid) : "unknown", path_));
}

void RuntimeDirectory::read() {
    const UniqueFd fd{::openat(directory_.get(), shm::kIndexFile,
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    if (!fd) {
        if (errno != ENOENT) {
            log_warning("{}/{} cannot be read ({}): pools are looked for in /dev/shm instead",
                        path_, shm::kIndexFile, std::generic_category().message(errno));
        }
        return;
    }
    const struct stat status = status_of(fd.get());
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() ||
        (status.st_mode & kOthersMayWrite) != 0 ||
        static_cast<std::uint64_t>(status.st_size) > shm::kMaxIndexBytes ||
        read_at(fd.get(), text.data(), text.size(), 0) != 0) {
        log_warning(
            "{}/{} is not this daemon's index: it is left out, and pools are looked for in "
            "/dev/shm instead",
            path_, shm::kIndexFile);
        return;
    }
    std::uint32_t bad_lines = 0;
    index_ = shm::parse_index(text, bad_lines);
    if (bad_lines != 0) {
        log_warning("{}/{}: {} lines make no sense and are left out", path_, shm::kIndexFile,
                    bad_lines);
    }
}

void RuntimeDirectory::write(const shm::PoolIndex& index) const {
    const std::string text = shm::format_index(index);
    ::unlinkat(directory_.get(), kNewIndex, 0);
    const UniqueFd fd{::openat(directory_.get(), kNewIndex,
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)};
    const auto put = fd ? ::write(fd.get(), text.data(), text.size()) : -1;
    if (put != static_cast<ssize_t>(text.size())) {
        fail(put < 0 ? errno : ENOSPC, "cannot write the index of the pools in " + path_);
    }
    if (::fchmod(fd.get(), 0644) != 0 ||
        ::renameat(directory_.get(), kNewIndex, directory_.get(), shm::kIndexFile) != 0) {
        fail(errno, "cannot replace the index of the pools in " + path_);
    }
}

void RuntimeDirectory::remove() noexcept {
    if (!index_.pools.empty()) {
        return;  // pools of an earlier configuration, which a later one may name again
    }
    ::unlinkat(directory_.get(), kNewIndex, 0);
    ::unlinkat(directory_.get(), shm::kIndexFile, 0);
    ::unlinkat(directory_.get(), shm::kPrivateDirectory, AT_REMOVEDIR);
    // Ours alone is one with the name of the socket; another goes if this daemon made it, and if
    // nothing else is in it.
    if (made_ || path_.ends_with(".d")) {
        ::rmdir(path_.c_str());
    }
}

std::optional<LockHolder> holder_of_lock(dev_t device, ino_t inode) {
    const std::string wanted = fmt::format("{:02x}:{:02x}:{}", major(device), minor(device), inode);
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        // "1: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF"; with "->" if it only waits for it.
        std::istringstream words(line);
        std::string number;
        std::string kind;
        std::string how;
        std::string access;
        LockHolder holder;
        std::string file;
        if (words >> number >> kind >> how >> access >> holder.pid >> file && kind == "FLOCK" &&
            access == "WRITE" && file == wanted && holder.pid > 0) {
            struct stat process {};
            if (::stat(fmt::format("/proc/{}", holder.pid).c_str(), &process) == 0) {
                holder.uid = process.st_uid;
                return holder;
            }
        }
    }
    return std::nullopt;
}

std::string describe_user(uid_t uid) {
    std::array<char, 4096> buffer{};
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
        return fmt::format("uid {} ({})", uid, found->pw_name);
    }
    return fmt::format("uid {}", uid);
}

}  // namespace mempoold
