// What stream_producer and stream_consumer say to each other, and how they measure.
//
// Over an AF_UNIX SOCK_SEQPACKET socket, so that a message arrives whole or not at all. The bytes
// of the file are not in it: they lie in the slot that the message names.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace stream {

/// Producer to consumer: "`length` bytes of the file, from `offset` on, lie in this slot".
/// A length of zero ends the stream; the consumer then answers with Totals.
struct Chunk {
    std::uint64_t handle = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

/// Consumer to producer: what arrived on this connection and is in the output file.
struct Totals {
    std::uint64_t chunks = 0;
    std::uint64_t bytes = 0;
};

[[noreturn]] inline void fail(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

/// Owner of one file descriptor.
class Descriptor {
public:
    /// Throws what errno says if `fd` is negative.
    Descriptor(int fd, const std::string& what) : fd_(fd) {
        if (fd < 0) {
            fail(what);
        }
    }
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    [[nodiscard]] int get() const noexcept { return fd_; }

private:
    int fd_;
};

inline sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        throw std::invalid_argument("a socket's path has 1 to 107 characters, not '" + path + "'");
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

/// Sends one message; throws if nobody reads any more.
template <typename Message>
void send(int socket, const Message& message, std::string_view to) {
    ssize_t sent = 0;
    do {
        sent = ::send(socket, &message, sizeof message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent != sizeof message) {
        fail("cannot send to " + std::string(to));
    }
}

/// Receives one message; false if the other end is gone. Throws on a message of another size.
template <typename Message>
bool receive(int socket, Message& message, std::string_view from) {
    ssize_t got = 0;
    do {
        got = ::recv(socket, &message, sizeof message, MSG_TRUNC);
    } while (got < 0 && errno == EINTR);
    if (got == 0 || (got < 0 && errno == ECONNRESET)) {
        return false;
    }
    if (got < 0) {
        fail("cannot receive from " + std::string(from));
    }
    if (got != sizeof message) {
        throw std::runtime_error(std::string(from) + " sent a message of another protocol");
    }
    return true;
}

/// A number above zero from the command line. Throws std::invalid_argument.
inline std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || rest != end || value == 0) {
        throw std::invalid_argument("'" + std::string(text) + "' is not a number above zero");
    }
    return value;
}

using Clock = std::chrono::steady_clock;

/// Prints "WHO: 150.0 MiB in 0.21 s, 714 MiB/s" to standard error.
inline void report(const char* who, std::uint64_t bytes, Clock::time_point start) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const double mebibytes = static_cast<double>(bytes) / (1024.0 * 1024.0);
    std::fprintf(stderr, "%s: %.1f MiB in %.2f s, %.0f MiB/s\n", who, mebibytes, seconds,
                 seconds > 0 ? mebibytes / seconds : 0.0);
}

}  // namespace stream
