// What goes over the control socket: one request, one reply, fixed sizes, versioned.
//
// AF_UNIX SOCK_SEQPACKET, so a message arrives whole or not at all. A client sends Request, the
// daemon answers each with one Reply (except the two one-way kinds), with a descriptor attached
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

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempool::shm {

constexpr std::uint32_t kWireMagic = 0x4b'4e'49'57;
constexpr std::uint16_t kWireVersion = 2;

/// What a request asks for. Its payload and its reply's stand in `payload` under the same name.
enum class RequestKind : std::uint16_t {
    kAttach = 1,    ///< pool → payload::Attachment, fd of segment 0, writable
    kResume = 2,    ///< pool, payload::Attachment, on a new connection → the same, no fd
    kSegment = 3,   ///< payload::Segment, after kAttach or kResume → fd of that segment
    kWantMore = 4,  ///< one-way, after kAttach: the depot is empty, grow if the pool may
    kBye = 5,      ///< one-way; pool, payload::Bye, on any connection: this client is done, and has
                   ///< unmapped the pool
    kInspect = 6,  ///< pool → payload::Inspected, text = which names of its objects are missing;
                   ///< what may be looked at comes by kRead, and never a descriptor
    kList = 7,     ///< payload::ListAt → payload::ListSize, text = name of the pool asked for
    kGrow = 8,     ///< admin; pool, payload::Grow → the same, slots added
    kReclaim = 9,  ///< admin; pool, payload::Reclaim → payload::Reclaimed
    kStatus = 10,  ///< → payload::Status, text = version
    kRepair = 11,  ///< admin; pool → payload::Repaired, text = as many std::uint64_t: how many of
                   ///< each shm::Fault were mended
    kRead = 12,    ///< payload::Read, after kInspect → payload::Read, then so many bytes of the
                   ///< pool's metadata after the Reply in the same message
    kEnd = 13,     ///< admin; pool, payload::End → payload::Ended
};

/// What `values` of a Request or a Reply holds.
namespace payload {

/// An attachment, and the proof of it. Only daemon and client know the token.
struct Attachment {
    std::uint64_t client = 0;  ///< id
    std::uint64_t key = 0;     ///< of the pool: tells it from another of that name
    std::uint64_t token = 0;   ///< random, never 0
    std::uint64_t epoch = 0;   ///< of the client's record
};
struct Segment {
    std::uint64_t number = 0;
};
struct Bye {
    std::uint64_t token = 0;  ///< of the attachment
    std::uint64_t client = 0;
    std::uint64_t key = 0;  ///< of the pool
};
struct Inspected {
    std::uint64_t key = 0;    ///< of the pool
    std::uint64_t bytes = 0;  ///< of metadata that may be read
};
struct ListAt {
    std::uint64_t position = 0;
};
struct ListSize {
    std::uint64_t pools = 0;
};
struct Grow {
    std::uint64_t slots = 0;
};
struct Reclaim {
    std::uint64_t detached_age = 0;  ///< seconds: also free slots detached for longer; ~0: none
};
struct Reclaimed {
    std::uint64_t slots = 0;
    std::uint64_t clients = 0;
    std::uint64_t detached = 0;  ///< slots
};
struct Status {
    std::uint64_t pid = 0;
    std::uint64_t started_at = 0;  ///< seconds since the epoch
};
struct Repaired {
    std::uint64_t total = 0;
    std::uint64_t clients = 0;  ///< attached
    std::uint64_t kinds = 0;    ///< counts in the reply's text
};
struct Read {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;  ///< at most kMaxReadBytes
};
/// Ends a client that may live; see End::how.
struct End {
    std::uint64_t client = 0;
    std::uint64_t epoch = 0;  ///< as its record says: so that nobody else is meant
    std::uint64_t how = 0;    ///< EndHow
};
struct Ended {
    std::uint64_t slots = 0;      ///< taken back
    std::uint64_t magazines = 0;  ///< taken back
    std::uint64_t left = 0;       ///< slots it still holds, until its process has ended
    std::uint64_t alive = 0;      ///< 1: its process may live still
};

template <typename Payload, typename Message>
[[nodiscard]] Payload of(const Message& message) noexcept {
    static_assert(std::is_trivially_copyable_v<Payload> &&
                  sizeof(Payload) <= sizeof(message.values));
    Payload payload;
    std::memcpy(&payload, message.values, sizeof(payload));
    return payload;
}
template <typename Payload, typename Message>
void put(Message& message, const Payload& payload) noexcept {
    static_assert(std::is_trivially_copyable_v<Payload> &&
                  sizeof(Payload) <= sizeof(message.values));
    std::memcpy(message.values, &payload, sizeof(payload));
}

}  // namespace payload

/// How far kEnd goes. Each includes what stands before it.
enum class EndHow : std::uint64_t {
    kRefuse = 0,  ///< it can do nothing any more, and its idle caches go to others
    kForce = 1,   ///< what its program has in hand goes to others too, while it may write there
    kKill = 2,    ///< its process is killed first, by its pidfd: then nothing is in doubt
};

constexpr std::uint64_t kMaxReadBytes = 65536;

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

/// Sends `reply` with `bytes` of `data` after it, as one message. 0 or errno; never SIGPIPE.
inline int send_data(int socket, const Reply& reply, const void* data, std::size_t bytes,
                     int flags = 0) noexcept {
    iovec parts[2] = {{const_cast<Reply*>(&reply), sizeof(reply)},
                      {const_cast<void*>(data), bytes}};
    msghdr header{};
    header.msg_iov = parts;
    header.msg_iovlen = 2;
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | flags);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

/// Receives a reply and what comes after it, at most `capacity` bytes, into `data`; `bytes` tells
/// how many. A descriptor that came along is closed. 0; ENOTCONN when the peer has closed; EPROTO
/// when the message is not one of ours; else errno.
inline int receive_data(int socket, Reply& reply, void* data, std::size_t capacity,
                        std::size_t& bytes, int flags = 0) noexcept {
    iovec parts[2] = {{&reply, sizeof(reply)}, {data, capacity}};
    msghdr header{};
    header.msg_iov = parts;
    header.msg_iovlen = 2;
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket, &header, flags);  // without room for descriptors
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno;
    }
    if (got == 0) {
        return ENOTCONN;
    }
    const bool ours = got >= static_cast<ssize_t>(sizeof(reply)) &&
                      (header.msg_flags & MSG_TRUNC) == 0 && reply.magic == kWireMagic;
    bytes = ours ? static_cast<std::size_t>(got) - sizeof(reply) : 0;
    return ours ? 0 : EPROTO;
}

/// Receives one message of exactly that size with the right magic and version, and the descriptor
/// that came with it, if any (close-on-exec). 0; ENOTCONN when the peer has closed; EPROTO when
/// the message is not one of ours; EMFILE when it is, but this process had no room for what came
/// with it; else errno.
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
    if (!ours) {
        return EPROTO;
    }
    // Of what doesn't fit into this process's limit the kernel says no more than this.
    return (header.msg_flags & MSG_CTRUNC) != 0 ? EMFILE : 0;
}

}  // namespace mempool::shm
