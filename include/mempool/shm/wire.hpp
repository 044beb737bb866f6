// What goes over the control socket: one request, one reply, fixed sizes, versioned.
//
// AF_UNIX SOCK_SEQPACKET, so a message arrives whole or not at all. A client sends Request, the
// daemon answers each with one Reply (but for the two one-way kinds), with a descriptor attached
// (SCM_RIGHTS) where the kind says so. Both sides copy a message once, check it, then use it. All
// numbers are in host order: the two ends share memory.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "mempool/shm/layout.hpp"
#include "mempool/shm/unique_fd.hpp"

namespace mempool::shm {

constexpr std::uint32_t kWireMagic = 0x4b'4e'49'57;
constexpr std::uint16_t kWireVersion = 1;

enum class RequestKind : std::uint16_t {
    kAttach = 1,   ///< pool → values[0] client id, values[1] pool key, fd of segment 0, writable
    kResume = 2,   ///< pool, values[0] client id, values[1] pool key, after a restart of the daemon
                   ///< → as kAttach, no fd. The key tells the pool from another of that name
    kSegment = 3,  ///< values[0] number, after kAttach or kInspect → fd of that segment
    kWantMore = 4,  ///< one-way, after kAttach: the depot is empty, grow if the pool may
    kBye = 5,       ///< one-way, after kAttach: this client is done, its record says LEAVING
    kInspect = 6,   ///< pool → fd of segment 0, read-only
    kList = 7,      ///< values[0] = k → values[0] pools in all, text = name of pool k
    kGrow = 8,      ///< admin; pool, values[0] slots → values[0] slots added
    kReclaim = 9,   ///< admin; pool, values[0] seconds: also free slots detached for longer, ~0:
                    ///< none → values[0] slots, values[1] clients, values[2] detached slots freed
    kStatus = 10,   ///< values[0] daemon pid, values[1] start time (epoch s), text = version
    kRepair = 11,   ///< admin; pool → values[0] things mended, values[1] clients attached,
                    ///< values[2] = n, text = n std::uint64_t: how many of each shm::Fault. An
                    ///< older daemon closes the connection
};

struct Request {
    std::uint32_t magic = kWireMagic;
    std::uint16_t version = kWireVersion;
    RequestKind kind{};
    std::uint64_t values[4] = {};
    char pool[kMaxPoolName + 8] = {};  ///< zero-terminated
};

struct Reply {
    std::uint32_t magic = kWireMagic;
    std::uint16_t version = kWireVersion;
    RequestKind kind{};      ///< that it answers; 0 for a request not understood
    std::int32_t error = 0;  ///< 0, or an errno value; `text` then says what to do
    std::uint32_t reserved = 0;
    std::uint64_t values[4] = {};
    char text[512] = {};  ///< zero-terminated
};

static_assert(std::is_trivially_copyable_v<Request> && sizeof(Request) == 112);
static_assert(offsetof(Request, version) == 4 && offsetof(Request, kind) == 6);
static_assert(offsetof(Request, values) == 8 && offsetof(Request, pool) == 40);
static_assert(std::is_trivially_copyable_v<Reply> && sizeof(Reply) == 560);
static_assert(offsetof(Reply, kind) == 6 && offsetof(Reply, error) == 8);
static_assert(offsetof(Reply, values) == 16 && offsetof(Reply, text) == 48);

/// Copies `from` into a zero-terminated field, cut to fit.
template <std::size_t N>
void copy_text(char (&to)[N], std::string_view from) noexcept {
    const std::size_t length = from.size() < N - 1 ? from.size() : N - 1;
    from.copy(to, length);
    std::memset(to + length, 0, N - length);
}

/// The text in a field that may lack its terminator.
template <std::size_t N>
std::string_view text_of(const char (&field)[N]) noexcept {
    return {field, ::strnlen(field, N)};
}

/// Sends one message, with `passed_fd` attached unless it is -1. 0 or errno; never SIGPIPE.
template <typename Message>
int send_message(int socket, const Message& message, int passed_fd = -1, int flags = 0) noexcept {
    iovec part{const_cast<Message*>(&message), sizeof(message)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (passed_fd >= 0) {
        header.msg_control = control;
        header.msg_controllen = sizeof(control);
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(rights), &passed_fd, sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | flags);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

/// Receives one message of exactly that size with the right magic and version, and the descriptor
/// that came with it, if any (close-on-exec). 0; ENOTCONN when the peer has closed; EPROTO when
/// the message is not one of ours; else errno.
template <typename Message>
int receive_message(int socket, Message& message, UniqueFd& passed_fd, int flags = 0) noexcept {
    iovec part{&message, sizeof(message)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 4)] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC | flags);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno;
    }
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t k = 0; k < count; ++k) {
                int fd = -1;
                std::memcpy(&fd, CMSG_DATA(c) + k * sizeof(int), sizeof(int));
                passed_fd.reset(fd);  // the last one stays, the others are closed
            }
        }
    }
    if (got == 0) {
        return ENOTCONN;
    }
    const bool ours = got == static_cast<ssize_t>(sizeof(message)) &&
                      (header.msg_flags & MSG_TRUNC) == 0 && message.magic == kWireMagic;
    return ours ? 0 : EPROTO;
}

}  // namespace mempool::shm
