// The control connection to mempoold, seen from the library.
//
// Used by Client, Inspector, Admin and find_pools(). Each wait has a limit, however many signals
// come; notify() never waits. Not thread-safe: the owner locks. Never raises SIGPIPE, prints
// nothing, is no cancellation point, and touches no descriptor that is not its own
// (own_socket.hpp).
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "mempool/client.hpp"
#include "mempool/error.hpp"
#include "mempool/shm/wire.hpp"
#include "mempool/shm/words/unique_fd.hpp"
#include "own_socket.hpp"

namespace mempool::detail {

/// A request of that kind about `pool` (may be empty).
[[nodiscard]] shm::Request make_request(shm::RequestKind kind, std::string_view pool,
                                        std::uint64_t value = 0) noexcept;
/// The same with a payload.
template <typename Payload>
requires(!std::is_arithmetic_v<Payload>) [[nodiscard]] shm::Request
    make_request(shm::RequestKind kind, std::string_view pool, const Payload& payload) noexcept {
    shm::Request request = make_request(kind, pool);
    shm::payload::put(request, payload);
    return request;
}

/// The daemon passed a descriptor, and this process had no room for it (EMFILE).
class DescriptorLost : public Error {
public:
    DescriptorLost(const shm::Reply& reply, const std::string& text)
        : Error(EMFILE, std::generic_category(), text), reply_(reply) {}
    /// The reply that it came with.
    [[nodiscard]] const shm::Reply& reply() const noexcept { return reply_; }

private:
    shm::Reply reply_;
};

/// One connection that is made again when it was lost.
class Connection {
public:
    using Clock = std::chrono::steady_clock;

    /// Takes over path and timeout; does not connect yet. Throws Error if the path is too long.
    explicit Connection(const AttachOptions& options);

    /// Connects if it is not connected. Throws Error with what to do.
    void connect();

    /// Sends `request`, waits for its reply and returns it, with the descriptor that came along in
    /// `passed`. Connects first if need be. Throws Error: the daemon's own refusal with its text,
    /// DescriptorLost, or what is wrong with the connection, which is closed then.
    shm::Reply call(const shm::Request& request, shm::UniqueFd* passed = nullptr);

    /// As call() for a kRead, with what comes after the reply in `data`; how many bytes that are.
    std::size_t read(const shm::Request& request, void* data, std::size_t capacity);
    /// As call(), for work that may take minutes: asks first whether the daemon answers at all,
    /// then waits for as long as it works.
    shm::Reply call_patiently(const shm::Request& request);

    /// Sends `request`, which has no reply, if that is possible at once; whether it was. A lost
    /// connection is made again, but not tried more than ten times a second.
    bool notify(const shm::Request& request) noexcept;

    /// From now on every new connection begins with `greeting`, a kResume.
    void greet_with(const shm::Request& greeting) noexcept { greeting_ = greeting; }
    /// Whether the daemon refused the greeting: the attachment was ended.
    [[nodiscard]] bool is_resume_refused() const noexcept { return resume_refused_; }
    /// Closes the connection; the next call makes a new one.
    void disconnect() noexcept { socket_.close(); }
    /// From now on call() waits at most that long, or less if it did already.
    void limit_waits(std::chrono::milliseconds longest) noexcept {
        timeout_ = timeout_ < longest ? timeout_ : longest;
    }

    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    /// Connects; the error number. Waits for the daemon to accept, or not at all.
    int open_socket(bool may_wait) noexcept;
    /// connect(2) until the deadline.
    [[nodiscard]] int connect_by(Clock::time_point deadline, int fd) const noexcept;
    void send_by(Clock::time_point deadline, const shm::Request& request);
    /// Receives a reply, and what came with it; `lost`: there was no room for that.
    [[nodiscard]] shm::Reply receive_by(Clock::time_point deadline, shm::UniqueFd& passed,
                                        bool& lost);
    /// Takes note of what a reply says about the attachment.
    void note(const shm::Reply& reply) noexcept;
    /// Throws what the daemon said before it closed the connection, if it said why.
    void throw_parting_words();
    void wait_for(short events, Clock::time_point deadline);
    /// Reads replies that nobody waits for; closes the socket if the daemon has.
    void drain() noexcept;
    /// Closes the socket and throws what is wrong with it.
    [[noreturn]] void fail(int error, const std::string& text);
    /// Throws if the program has closed the socket.
    int checked_socket();

    std::string path_;
    sockaddr_un address_{};
    std::chrono::milliseconds timeout_;
    OwnSocket socket_;
    std::optional<shm::Request> greeting_;
    bool resume_refused_ = false;
    std::optional<Clock::time_point> last_attempt_;
};

}  // namespace mempool::detail
