#include "daemon/control/listener.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/control/stranger.hpp"

namespace mempoold {

namespace {

using mempool::shm::UniqueFd;

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        throw std::runtime_error(
            fmt::format("the socket's path '{}' has {} characters and may have at most {}: choose "
                        "a shorter one",
                        path, path.size(), sizeof(address.sun_path) - 1));
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

UniqueFd new_socket() {
    UniqueFd fd{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd) {
        fail(errno, "cannot make a socket");
    }
    return fd;
}

// The lock is ours, so no daemon of this runtime directory owns the file: it is stale unless
// something else answers there.
void remove_stale(const std::string& path, const sockaddr_un& address) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) {
            return;
        }
        fail(errno, "cannot look at " + path);
    }
    if (!S_ISSOCK(status.st_mode)) {
        throw std::runtime_error(path +
                                 " exists and is not a socket: move it away, or choose another "
                                 "path with --socket");
    }
    const UniqueFd probe = new_socket();
    const bool refused =
        ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
        (errno == ECONNREFUSED || errno == ENOENT);
    if (!refused) {
        throw std::runtime_error("something else answers at " + path +
                                 ": end it, or choose another path with --socket");
    }
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        fail(errno, "cannot remove the stale socket " + path);
    }
}

// The descriptor named "control", else the only one there is; empty if none was passed.
UniqueFd find_inherited(FdStore::Descriptors& passed) {
    UniqueFd found;
    for (auto& [name, fd] : passed) {
        if (!found && (passed.size() == 1 || name == "control")) {
            found = std::move(fd);
        } else {
            log_warning("closing descriptor '{}' that was passed and is not the control socket",
                        name);
        }
    }
    return found;
}

std::string bound_path(int fd) {
    sockaddr_un address{};
    socklen_t bytes = sizeof(address);
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
        bytes <= offsetof(sockaddr_un, sun_path) || address.sun_path[0] == '\0') {
        return {};
    }
    return {address.sun_path, ::strnlen(address.sun_path, sizeof(address.sun_path))};
}

}  // namespace

namespace {

std::string_view from_environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string_view() : std::string_view(value);
}

// The default directory of socket, lock and index; empty if there is none.
std::string default_directory() {
    // systemd lists several directories with ':' between them; the first is ours.
    if (const auto given = from_environment("RUNTIME_DIRECTORY"); !given.empty()) {
        return std::string(given.substr(0, given.find(':')));
    }
    if (::geteuid() == 0) {
        return "/run/mempoold";
    }
    if (const auto given = from_environment("XDG_RUNTIME_DIR"); !given.empty()) {
        return std::string(given) + "/mempoold";
    }
    return {};
}

}  // namespace

std::string default_socket_place() {
    const std::string directory = default_directory();
    if (directory.empty()) {
        throw std::runtime_error(
            "no place for the control socket: XDG_RUNTIME_DIR is not set; give one with --socket "
            "PATH");
    }
    return directory + "/mempoold.sock";
}

std::string runtime_place(const std::string& socket, bool asked) {
    const bool told = !from_environment("RUNTIME_DIRECTORY").empty();
    if (asked || (!told && !socket.empty() && socket != default_directory() + "/mempoold.sock")) {
        return socket + ".d";
    }
    std::string directory = default_directory();
    if (directory.empty()) {
        throw std::runtime_error(
            "no place for the lock and the index of the pools: set RuntimeDirectory= in the unit, "
            "or RUNTIME_DIRECTORY");
    }
    return directory;
}

Listener::Listener(std::string path, FdStore::Descriptors passed) : path_(std::move(path)) {
    if (UniqueFd fd = find_inherited(passed)) {
        take_inherited(std::move(fd));
        return;
    }
    const bool asked = !path_.empty();
    if (!asked) {
        path_ = default_socket_place();
    }
    static_cast<void>(address_of(path_));  // before anything is made: it may be too long
    runtime_.emplace(runtime_place(path_, asked));
    bind_own();
}

void Listener::take_inherited(UniqueFd passed) {
    socket_ = std::move(passed);
    const int fd = socket_.get();
    if (::sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, nullptr, 0) <= 0) {
        throw std::runtime_error(
            "the descriptor that was passed is not a listening AF_UNIX "
            "SOCK_SEQPACKET socket: use ListenSequentialPacket=");
    }
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    const std::string bound = bound_path(fd);
    if (!path_.empty() && path_ != bound) {
        log_warning("serving the socket that was passed, {}, not {}", bound, path_);
    }
    path_ = bound;
    remember_file();
    runtime_.emplace(runtime_place(path_, false));
}

void Listener::bind_own() {
    const sockaddr_un address = address_of(path_);
    remove_stale(path_, address);
    socket_ = new_socket();
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        fail(errno, "cannot bind " + path_);
    }
    own_ = true;
    open_to_all();
    refuse_descriptors(socket_.get());  // before the first connection
    if (::listen(socket_.get(), SOMAXCONN) != 0) {
        fail(errno, "cannot listen at " + path_);
    }
    remember_file();  // last: what failed before is tried again
}

// Anybody may connect: who it is, the kernel tells, and each pool has its own list. By a
// descriptor: in a directory where others may write, the name can be a link to something else by
// now.
void Listener::open_to_all() const {
    const UniqueFd file{::open(path_.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0) {
        fail(errno, "cannot look at " + path_);
    }
    if (!S_ISSOCK(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1) {
        fail(EBUSY, path_ +
                        " was replaced by somebody as soon as it was made: choose a path with "
                        "--socket where nobody else may write");
    }
    if (::chmod(fmt::format("/proc/self/fd/{}", file.get()).c_str(), 0666) != 0) {
        fail(errno, "cannot open " + path_ + " to all");
    }
}

void Listener::remember_file() {
    struct stat status {};
    if (::lstat(path_.c_str(), &status) == 0) {
        device_ = status.st_dev;
        inode_ = status.st_ino;
    }
}

bool Listener::is_in_place() const noexcept {
    struct stat status {};
    return ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
           status.st_ino == inode_;
}

bool Listener::mend() {
    std::string fault;
    try {
        runtime_->mend();
    } catch (const std::exception& e) {
        fault = e.what();  // the socket all the same
    }
    const bool again = mend_socket();
    if (!fault.empty() && !again) {
        throw std::runtime_error(fault);
    }
    return again;
}

bool Listener::mend_socket() {
    if (inode_ == 0 || is_in_place()) {
        return false;
    }
    if (!own_) {
        throw std::runtime_error(fmt::format(
            "the socket {} was removed or replaced by somebody: nobody new can attach until the "
            "unit that made it has made it again (systemctl restart mempoold.socket)",
            path_));
    }
    bind_own();
    log_warning("the socket {} was removed by somebody; it is there again", path_);
    return true;
}

Listener::~Listener() {
    if (own_ && is_in_place()) {
        ::unlink(path_.c_str());
    }
}

}  // namespace mempoold
