#include "siege/connection.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "siege/attacker.hpp"

namespace mempool_test {

namespace {

namespace shm = mempool::shm;
using Clock = std::chrono::steady_clock;

bool wait_for(int fd, short event, std::chrono::milliseconds patience) {
    pollfd waited{fd, event, 0};
    return ::poll(&waited, 1, static_cast<int>(patience.count())) == 1;
}

}  // namespace

shm::Request request_of(RequestKind kind, const std::string& pool) {
    shm::Request request;
    request.kind = kind;
    shm::copy_text(request.pool, pool);
    return request;
}

Connection::Connection(const std::string& socket_path, std::chrono::milliseconds patience)
    : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const auto deadline = Clock::now() + patience;
    while (socket_ && ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                                sizeof(address)) != 0) {
        if (errno != EAGAIN || Clock::now() > deadline) {  // EAGAIN: the backlog is full
            socket_.reset();
            return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
}

bool Connection::send(const shm::Request& request) { return send_with(request, {}) == 0; }

bool Connection::send_bytes(const void* bytes, std::size_t count) {
    return ::send(socket_.get(), bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

int Connection::send_with(const shm::Request& request, std::span<const int> fds) {
    shm::Request copy = request;
    iovec part{&copy, sizeof(copy)};
    std::vector<char> control(fds.empty() ? 0 : CMSG_SPACE(fds.size_bytes()));
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    }
    return ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

std::optional<shm::Reply> Connection::receive(UniqueFd* passed,
                                              std::chrono::milliseconds patience) {
    shm::Reply reply;
    UniqueFd fd;
    if (!wait_for(socket_.get(), POLLIN, patience) ||
        shm::receive_message(socket_.get(), reply, fd, MSG_DONTWAIT) != 0) {
        return std::nullopt;
    }
    if (passed != nullptr) {
        *passed = std::move(fd);
    }
    return reply;
}

std::optional<shm::Reply> Connection::ask(const shm::Request& request, UniqueFd* passed,
                                          std::chrono::milliseconds patience) {
    if (!open() || !send(request)) {
        return std::nullopt;
    }
    return receive(passed, patience);
}

bool Connection::ask_in_vain(Attacker& a, const shm::Request& request) {
    UniqueFd passed;
    const auto reply = ask(request, &passed);
    if (reply && (reply->error == 0 || passed)) {
        a.breach("request " + std::to_string(static_cast<int>(request.kind)) + " was granted");
    }
    return reply.has_value();
}

}  // namespace mempool_test
