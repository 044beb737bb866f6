#include "connection.hpp"

#include <poll.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "mempool/error.hpp"
#include "mempool/shm/names.hpp"

namespace mempool::detail {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRetryInterval{100};
constexpr milliseconds kLongestTimeout{std::chrono::hours{24}};
constexpr std::int32_t kLastErrno = 4095;

std::string connect_error_text(int error, const std::string& path) {
    const std::string remedy = "start it ('systemctl start mempoold', or 'mempoold --socket " +
                               path + " …'), or name the socket of a running one in MEMPOOL_SOCKET";
    switch (error) {
        case ENOENT:
        case ENOTDIR:
            return "mempoold is not running (no socket at " + path + "): " + remedy;
        case ECONNREFUSED:
            return "mempoold is not running (nobody listens at " + path + "): " + remedy;
        case EACCES:
        case EPERM:
            return "not allowed to connect to mempoold at " + path +
                   ": run as a user or group its socket admits";
        case EPROTOTYPE:
            return path + " is a socket of another kind, not mempoold's: check MEMPOOL_SOCKET";
        case ETIMEDOUT:
            return "mempoold at " + path +
                   " does not accept the connection in time: is it stopped or overloaded?";
        default:
            return "cannot connect to mempoold at " + path;
    }
}

bool is_gone(int error) noexcept {
    return error == ENOTCONN || error == EPIPE || error == ECONNRESET;
}

}  // namespace

shm::Request make_request(shm::RequestKind kind, std::string_view pool,
                          std::uint64_t value) noexcept {
    shm::Request request;
    request.kind = kind;
    request.values[0] = value;
    shm::copy_text(request.pool, pool);
    return request;
}

Connection::Connection(const AttachOptions& options)
    : path_(options.socket.empty() ? shm::default_socket_path() : options.socket),
      timeout_(std::clamp(options.timeout, milliseconds{0}, kLongestTimeout)) {
    address_.sun_family = AF_UNIX;
    if (path_.size() >= sizeof(address_.sun_path)) {
        throw Error(ENAMETOOLONG, std::generic_category(),
                    "the socket path " + path_ + " is longer than " +
                        std::to_string(sizeof(address_.sun_path) - 1) +
                        " bytes: use a shorter one");
    }
    shm::copy_text(address_.sun_path, path_);
}

void Connection::connect() {
    if (socket_) {
        return;
    }
    int error = open_socket(true);
    if (error != 0) {
        error = error == EAGAIN ? ETIMEDOUT : error;
        throw Error(error, std::generic_category(), connect_error_text(error, path_));
    }
}

int Connection::open_socket(bool may_wait) noexcept {
    last_attempt_ = Clock::now();
    const int kind = SOCK_SEQPACKET | SOCK_CLOEXEC | (may_wait ? 0 : SOCK_NONBLOCK);
    shm::UniqueFd fd{::socket(AF_UNIX, kind, 0)};
    if (!fd) {
        return errno;
    }
    if (may_wait) {
        // The limit for connect(2) too, which waits while the daemon's backlog is full. Zero would
        // mean for ever.
        const auto limit = std::max(timeout_, milliseconds{1});
        timeval wait{};
        wait.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(limit).count();
        wait.tv_usec = (limit % std::chrono::seconds{1}) / std::chrono::microseconds{1};
        ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    }
    int result = 0;
    do {
        result =
            ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_));
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return errno;
    }
    if (greeting_) {
        const int error = shm::send_message(fd.get(), *greeting_, -1, MSG_DONTWAIT);
        if (error != 0) {
            return error;
        }
    }
    socket_ = std::move(fd);
    return 0;
}

void Connection::fail(int error, const std::string& text) {
    socket_.reset();
    throw Error(error, std::generic_category(), text);
}

void Connection::wait_for(short events, Clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
        pollfd waited{socket_.get(), events, 0};
        const int ready =
            ::poll(&waited, 1, static_cast<int>(std::max<milliseconds::rep>(left.count(), 0)));
        if (ready > 0) {
            return;
        }
        if (ready == 0) {
            fail(ETIMEDOUT, "mempoold at " + path_ + " does not answer: is it stopped or busy?");
        }
        if (errno != EINTR) {
            fail(errno, "cannot wait for mempoold at " + path_);
        }
    }
}

// A daemon that turns us away may close before it has read our request. The kernel then reports
// that first, once, and what the daemon said stands behind it.
void Connection::throw_parting_words() {
    shm::Reply reply;
    shm::UniqueFd unwanted;
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (shm::receive_message(socket_.get(), reply, unwanted, MSG_DONTWAIT) == 0 &&
            reply.version == shm::kWireVersion && reply.error > 0 && reply.error <= kLastErrno) {
            fail(reply.error, std::string(shm::text_of(reply.text)));
        }
    }
}

void Connection::send_by(Clock::time_point deadline, const shm::Request& request) {
    for (;;) {
        const int error = shm::send_message(socket_.get(), request, -1, MSG_DONTWAIT);
        if (error == 0) {
            return;
        }
        if (error != EAGAIN) {
            throw_parting_words();
            fail(is_gone(error) ? ECONNRESET : error,
                 "mempoold at " + path_ + " has closed the connection: see its log");
        }
        wait_for(POLLOUT, deadline);
    }
}

shm::Reply Connection::receive_by(Clock::time_point deadline, shm::UniqueFd& passed) {
    shm::Reply reply;
    for (;;) {
        const int error = shm::receive_message(socket_.get(), reply, passed, MSG_DONTWAIT);
        if (error == EAGAIN) {
            wait_for(POLLIN, deadline);
        } else if (is_gone(error)) {
            throw_parting_words();
            fail(ECONNRESET, "mempoold at " + path_ + " has closed the connection: see its log");
        } else if (error != 0) {
            fail(error, "the answer from " + path_ +
                            " is not mempoold's: is another program listening there?");
        } else if (reply.version != shm::kWireVersion) {
            fail(EPROTO, "mempoold at " + path_ + " speaks version " +
                             std::to_string(reply.version) + " of the protocol, this library " +
                             std::to_string(shm::kWireVersion) + ": use the matching release");
        } else {
            return reply;
        }
    }
}

shm::Reply Connection::call(const shm::Request& request, shm::UniqueFd* passed) {
    drain();
    connect();
    const Clock::time_point deadline = Clock::now() + timeout_;
    send_by(deadline, request);
    for (;;) {
        shm::UniqueFd fd;
        const shm::Reply reply = receive_by(deadline, fd);
        const bool to_greeting = greeting_ && reply.kind == greeting_->kind;
        if (reply.error != 0) {
            const bool known = reply.error > 0 && reply.error <= kLastErrno;
            const std::string_view text = shm::text_of(reply.text);
            const std::string shown =
                text.empty() ? "mempoold refused the request" : std::string(text);
            if (to_greeting || reply.kind != request.kind) {
                socket_.reset();
            }
            throw Error(known ? reply.error : EPROTO, std::generic_category(), shown);
        }
        if (to_greeting) {
            continue;
        }
        if (reply.kind != request.kind) {
            fail(EPROTO, "mempoold at " + path_ + " answered another question: see its log");
        }
        if (reply.kind == shm::RequestKind::kAttach) {
            pool_key_ = reply.values[1];
        }
        if (passed != nullptr) {
            *passed = std::move(fd);
        }
        return reply;
    }
}

shm::Reply Connection::call_patiently(const shm::Request& request) {
    call(make_request(shm::RequestKind::kStatus, {}));
    const milliseconds usual = std::exchange(timeout_, kLongestTimeout);
    try {
        shm::Reply reply = call(request);
        timeout_ = usual;
        return reply;
    } catch (...) {
        timeout_ = usual;
        throw;
    }
}

void Connection::drain() noexcept {
    while (socket_) {
        shm::Reply reply;
        shm::UniqueFd unwanted;
        const int error = shm::receive_message(socket_.get(), reply, unwanted, MSG_DONTWAIT);
        if (error == EAGAIN) {
            return;
        }
        if (error != 0 || reply.error != 0) {
            socket_.reset();
        }
    }
}

bool Connection::notify(const shm::Request& request) noexcept {
    drain();
    if (socket_) {
        const int error = shm::send_message(socket_.get(), request, -1, MSG_DONTWAIT);
        if (error == 0 || error == EAGAIN) {
            return error == 0;
        }
        socket_.reset();
    }
    if (last_attempt_ && Clock::now() - *last_attempt_ < kRetryInterval) {
        return false;
    }
    return open_socket(false) == 0 &&
           shm::send_message(socket_.get(), request, -1, MSG_DONTWAIT) == 0;
}

}  // namespace mempool::detail
