// The control connection to mempoold, seen from the library.
//
// Used by Client, Inspector, Admin and find_pools(). Each wait has a limit; notify() never waits.
// Not thread-safe: the owner locks. Never raises SIGPIPE, prints nothing.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "mempool/client.hpp"
#include "mempool/shm/unique_fd.hpp"
#include "mempool/shm/wire.hpp"

namespace mempool::detail {

/// A request of that kind about `pool` (may be empty).
[[nodiscard]] shm::Request make_request(shm::RequestKind kind, std::string_view pool,
                                        std::uint64_t value = 0) noexcept;

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
    /// or what is wrong with the connection, which is closed then.
    shm::Reply call(const shm::Request& request, shm::UniqueFd* passed = nullptr);

    /// As call(), for work that may take minutes: asks first whether the daemon answers at all,
    /// then waits for as long as it works.
    shm::Reply call_patiently(const shm::Request& request);

    /// Sends `request`, which has no reply, if that is possible at once; whether it was. A lost
    /// connection is made again, but not tried more than ten times a second.
    bool notify(const shm::Request& request) noexcept;

    /// From now on every new connection begins with `greeting`, a kResume; it gets the key of the
    /// pool that was attached.
    void greet_with(const shm::Request& greeting) noexcept {
        greeting_ = greeting;
        greeting_->values[1] = pool_key_;
    }
    /// From now on call() waits at most that long, or less if it did already.
    void limit_waits(std::chrono::milliseconds longest) noexcept {
        timeout_ = timeout_ < longest ? timeout_ : longest;
    }

    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    /// Connects; the error number. Waits for the daemon to accept, or not at all.
    int open_socket(bool may_wait) noexcept;
    void send_by(Clock::time_point deadline, const shm::Request& request);
    [[nodiscard]] shm::Reply receive_by(Clock::time_point deadline, shm::UniqueFd& passed);
    /// Throws what the daemon said before it closed the connection, if it said why.
    void throw_parting_words();
    void wait_for(short events, Clock::time_point deadline);
    /// Reads replies that nobody waits for; closes the socket if the daemon has.
    void drain() noexcept;
    /// Closes the socket and throws what is wrong with it.
    [[noreturn]] void fail(int error, const std::string& text);

    std::string path_;
    sockaddr_un address_{};
    std::chrono::milliseconds timeout_;
    shm::UniqueFd socket_;
    std::optional<shm::Request> greeting_;
    std::uint64_t pool_key_ = 0;  // from the reply to kAttach
    std::optional<Clock::time_point> last_attempt_;
};

}  // namespace mempool::detail
