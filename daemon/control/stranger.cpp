#include "daemon/control/stranger.hpp"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <utility>

#include "daemon/base/closer.hpp"
#include "mempool/shm/wire.hpp"

namespace mempoold {

namespace {

// Newer than Debian 12's headers.
constexpr int kSoPassRights = 83;

// Asked of each connection: one that was made before the listener was told so, in the backlog of a
// socket unit, still carries descriptors.
bool kernel_refuses(int connection) noexcept {
    int passes = 1;
    socklen_t bytes = sizeof(passes);
    return ::getsockopt(connection, SOL_SOCKET, kSoPassRights, &passes, &bytes) == 0 && passes == 0;
}

enum class Waiting : std::uint8_t { kNothing, kData, kDescriptors };

// Peeking copies no descriptor to us and leaves the message's own where they are.
Waiting next_message(int connection) noexcept {
    std::array<char, 1> byte{};
    iovec part{byte.data(), byte.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    const ssize_t got = ::recvmsg(connection, &header, MSG_PEEK | MSG_DONTWAIT);
    if (got >= 0 && (header.msg_flags & MSG_CTRUNC) != 0) {
        return Waiting::kDescriptors;
    }
    // An empty message looks like the end, and is one for a peer that speaks our protocol.
    return got > 0 ? Waiting::kData : Waiting::kNothing;
}

}  // namespace

void refuse_descriptors(int listener) noexcept {
    const int pass = 0;
    ::setsockopt(listener, SOL_SOCKET, kSoPassRights, &pass, sizeof(pass));
}

bool carries_descriptors(int connection) noexcept {
    return !kernel_refuses(connection) && next_message(connection) == Waiting::kDescriptors;
}

void close_stranger(mempool::shm::UniqueFd connection, Closings closings) noexcept {
    if (!connection) {
        return;
    }
    // The peer sees the end now, and can send nothing more.
    ::shutdown(connection.get(), SHUT_RDWR);
    if (!kernel_refuses(connection.get())) {
        close_elsewhere(std::move(connection), std::move(closings));
    }
}

bool has_unread_replies(int connection) noexcept {
    int bytes = 0;
    return ::ioctl(connection, SIOCOUTQ, &bytes) == 0 && bytes != 0;
}

}  // namespace mempoold
