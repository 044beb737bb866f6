#include "daemon/base/notify.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

#include "daemon/base/text.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

namespace {

/// systemd reads PIPE_BUF bytes of a message.
constexpr std::size_t kMostStatus = 2048;

std::string status_line(const std::string& status) {
    return "STATUS=" + shortened(printable(status), kMostStatus);
}

}  // namespace

// libsystemd's own call waits until the manager has read what came before.
int notify_manager(const std::string& message, int fd) noexcept {
    const char* path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr || *path == '\0') {
        return 0;
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string_view name(path);
    if (name.size() >= sizeof(address.sun_path)) {
        return ENAMETOOLONG;
    }
    name.copy(address.sun_path, name.size());
    if (name.front() == '@') {
        address.sun_path[0] = '\0';  // an abstract one
    }
    const mempool::shm::UniqueFd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    if (!socket) {
        return errno;
    }
    iovec part{const_cast<char*>(message.data()), message.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_name = &address;
    header.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (fd >= 0) {
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
    }
    return ::sendmsg(socket.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

// By libsystemd, which waits: this message must not be lost, and nobody is served yet. At a reload
// the manager waits for it.
void notify_ready(const std::string& status) {
    ::sd_notify(0, ("READY=1\n" + status_line(status)).c_str());
}

void notify_status(const std::string& status) { notify_manager(status_line(status)); }

void notify_reloading() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::int64_t usec = std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
    notify_manager("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(usec));
}

void notify_busy() {
    using Clock = std::chrono::steady_clock;
    static Clock::time_point last;
    if (const auto now = Clock::now(); now - last >= std::chrono::seconds{1}) {
        last = now;
        notify_manager("EXTEND_TIMEOUT_USEC=30000000");
    }
}

void notify_stopping() { notify_manager("STOPPING=1\nSTATUS=stopping; the pools stay"); }

void notify_watchdog() { notify_manager("WATCHDOG=1"); }

std::chrono::microseconds watchdog_period() {
    std::uint64_t usec = 0;
    if (::sd_watchdog_enabled(0, &usec) <= 0) {
        return {};
    }
    return std::chrono::microseconds(usec);
}

}  // namespace mempoold
