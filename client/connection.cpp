#include "connection.hpp"

#include <poll.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "mempool/shm/words/names.hpp"
#include "no_cancellation.hpp"
#include "trusted_path.hpp"

namespace mempool::detail {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr milliseconds kRetryInterval{100};
constexpr milliseconds kLongestTimeout{std::chrono::hours{24}};
constexpr std::int32_t kLastErrno = 4095;
constexpr std::int32_t kEndedErrno = ESTALE;  // the daemon's for an attachment that was ended

constexpr const char* kRoomForDescriptors =
    "close some, or raise its limit (ulimit -n, LimitNOFILE= of its unit)";

/// Whether the file at `path` has no name any more where it was made: what stands there is a mount
/// of the file alone.
bool was_replaced(const std::string& path) noexcept {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && status.st_nlink == 0;
}

/// The path to connect to, for as long as the connection object lives: the working directory may
/// change. Throws Error if it can't be known, or must not be trusted.
std::string resolve(const std::string& given) {
    std::string path = given.empty() ? shm::default_socket_path() : given;
    if (path.front() != '/') {
        std::array<char, PATH_MAX> here{};
        if (::getcwd(here.data(), here.size()) == nullptr) {
            throw Error(errno, std::generic_category(),
                        "the socket path " + path +
                            " is relative, and the working directory can't be read: give an "
                            "absolute one");
        }
        path.insert(0, std::string(here.data()) + "/");
    }
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
        throw Error(ENAMETOOLONG, std::generic_category(),
                    "the socket path " + path + " is longer than " +
                        std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
                        " bytes: use a shorter one");
    }
    if (::getauxval(AT_SECURE) != 0) {
        if (const std::string part = distrusted_part_of(path, ::geteuid()); !part.empty()) {
            throw Error(EACCES, std::generic_category(),
                        "this program runs with more rights than its caller, and others may change "
                        "what is at " +
                            part + ": use a socket in a directory of root's");
        }
    }
    return path;
}

std::string connect_error_text(int error, const std::string& path) {
    const std::string remedy = "start it ('systemctl start mempoold', or 'mempoold --socket " +
                               path + " …'), or name the socket of a running one in MEMPOOL_SOCKET";
    switch (error) {
        case ENOENT:
        case ENOTDIR:
            return "mempoold is not running (no socket at " + path + "): " + remedy;
        case ECONNREFUSED:
            if (was_replaced(path)) {
                return "nobody listens at " + path +
                       " any more: the socket was replaced, and what is mounted here is the old "
                       "one. Mount the directory that it is in, not the socket alone";
            }
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
        case EMFILE:
            return "this process has no descriptor left to reach mempoold at " + path + ": " +
                   kRoomForDescriptors;
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
    : path_(resolve(options.socket)),
      timeout_(std::clamp(options.timeout, milliseconds{0}, kLongestTimeout)) {
    address_.sun_family = AF_UNIX;
    shm::copy_text(address_.sun_path, path_);
}

void Connection::connect() {
    const NoCancellation guard;
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
    OwnSocket fresh{::socket(AF_UNIX, kind, 0)};
    const int fd = fresh.get();
    if (fd < 0) {
        return errno;
    }
    // Zero would mean for ever.
    const auto limit = may_wait ? std::max(timeout_, milliseconds{1}) : milliseconds{0};
    if (const int error = connect_by(*last_attempt_ + limit, fd); error != 0) {
        return error;
    }
    if (greeting_) {
        const int error = shm::send_message(fd, *greeting_, -1, MSG_DONTWAIT);
        if (error != 0) {
            return error;
        }
    }
    socket_ = std::move(fresh);
    return 0;
}

// connect(2) waits while the daemon's backlog is full, as long as SO_SNDTIMEO says: from its start,
// so a signal must not start it again with the same time.
int Connection::connect_by(Clock::time_point deadline, int fd) const noexcept {
    for (;;) {
        const auto left =
            std::max(std::chrono::ceil<microseconds>(deadline - Clock::now()), microseconds{1});
        timeval wait{};
        wait.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
        wait.tv_usec = (left % std::chrono::seconds{1}).count();
        ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) == 0) {
            return 0;
        }
        if (errno != EINTR) {
            return errno;
        }
        if (Clock::now() >= deadline) {
            return EAGAIN;
        }
    }
}

void Connection::fail(int error, const std::string& text) {
    socket_.close();
    throw Error(error, std::generic_category(), text);
}

int Connection::checked_socket() {
    const int fd = socket_.get();
    if (fd < 0) {
        fail(ECONNRESET, "this program closed the library's connection to mempoold at " + path_ +
                             " in the middle of a request: try again");
    }
    return fd;
}

void Connection::wait_for(short events, Clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
        pollfd waited{checked_socket(), events, 0};
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
// that first, once, and what the daemon said stands after it.
void Connection::throw_parting_words() {
    shm::Reply reply;
    shm::UniqueFd unwanted;
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (shm::receive_message(checked_socket(), reply, unwanted, MSG_DONTWAIT) == 0 &&
            reply.version == shm::kWireVersion && reply.error > 0 && reply.error <= kLastErrno) {
            fail(reply.error, std::string(shm::text_of(reply.text)));
        }
    }
}

void Connection::send_by(Clock::time_point deadline, const shm::Request& request) {
    for (;;) {
        const int error = shm::send_message(checked_socket(), request, -1, MSG_DONTWAIT);
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

shm::Reply Connection::receive_by(Clock::time_point deadline, shm::UniqueFd& passed, bool& lost) {
    shm::Reply reply;
    for (;;) {
        const int error = shm::receive_message(checked_socket(), reply, passed, MSG_DONTWAIT);
        const bool whole = error == 0 || error == EMFILE;
        if (error == EAGAIN) {
            wait_for(POLLIN, deadline);
        } else if (is_gone(error)) {
            throw_parting_words();
            fail(ECONNRESET, "mempoold at " + path_ + " has closed the connection: see its log");
        } else if (!whole) {
            fail(error, "the answer from " + path_ +
                            " is not mempoold's: is another program listening there?");
        } else if (reply.version != shm::kWireVersion) {
            fail(EPROTO, "mempoold at " + path_ + " speaks version " +
                             std::to_string(reply.version) + " of the protocol, this library " +
                             std::to_string(shm::kWireVersion) + ": use the matching release");
        } else {
            const bool came = static_cast<bool>(passed);
            passed.reset(above_stdio(passed.release()));
            lost = error == EMFILE || (came && !passed);
            note(reply);
            return reply;
        }
    }
}

void Connection::note(const shm::Reply& reply) noexcept {
    if (greeting_ && reply.kind == greeting_->kind && reply.error == kEndedErrno) {
        resume_refused_ = true;
    }
}

shm::Reply Connection::call(const shm::Request& request, shm::UniqueFd* passed) {
    const NoCancellation guard;
    drain();
    connect();
    const Clock::time_point deadline = Clock::now() + timeout_;
    send_by(deadline, request);
    for (;;) {
        shm::UniqueFd fd;
        bool lost = false;
        const shm::Reply reply = receive_by(deadline, fd, lost);
        const bool to_greeting = greeting_ && reply.kind == greeting_->kind;
        if (reply.error != 0) {
            const bool known = reply.error > 0 && reply.error <= kLastErrno;
            const std::string_view text = shm::text_of(reply.text);
            const std::string shown =
                text.empty() ? "mempoold refused the request" : std::string(text);
            if (to_greeting || reply.kind != request.kind) {
                socket_.close();
            }
            throw Error(known ? reply.error : EPROTO, std::generic_category(), shown);
        }
        if (to_greeting) {
            continue;
        }
        if (reply.kind != request.kind) {
            fail(EPROTO, "mempoold at " + path_ + " answered another question: see its log");
        }
        if (passed != nullptr) {
            if (lost) {
                throw DescriptorLost(reply,
                                     std::string("this process has no descriptor left for the "
                                                 "memory that mempoold passed: ") +
                                         kRoomForDescriptors);
            }
            *passed = std::move(fd);
        }
        return reply;
    }
}

std::size_t Connection::read(const shm::Request& request, void* data, std::size_t capacity) {
    connect();
    const Clock::time_point deadline = Clock::now() + timeout_;
    send_by(deadline, request);
    for (;;) {
        shm::Reply reply;
        std::size_t bytes = 0;
        const int error =
            shm::receive_data(socket_.get(), reply, data, capacity, bytes, MSG_DONTWAIT);
        if (error == EAGAIN) {
            wait_for(POLLIN, deadline);
        } else if (error != 0 || reply.version != shm::kWireVersion || reply.kind != request.kind) {
            fail(is_gone(error) ? ECONNRESET : EPROTO,
                 "mempoold at " + path_ +
                     " has closed the connection or answered another "
                     "question: see its log");
        } else if (reply.error != 0) {
            throw Error(reply.error > 0 && reply.error <= kLastErrno ? reply.error : EPROTO,
                        std::generic_category(), std::string(shm::text_of(reply.text)));
        } else {
            return bytes;
        }
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
    for (int fd = socket_.get(); fd >= 0; fd = socket_.get()) {
        shm::Reply reply;
        shm::UniqueFd unwanted;
        const int error = shm::receive_message(fd, reply, unwanted, MSG_DONTWAIT);
        if (error == EAGAIN) {
            return;
        }
        const bool whole = error == 0 || error == EMFILE;
        if (whole) {
            note(reply);
        }
        if (!whole || reply.error != 0) {
            socket_.close();
        }
    }
}

bool Connection::notify(const shm::Request& request) noexcept {
    const NoCancellation guard;
    drain();
    if (const int fd = socket_.get(); fd >= 0) {
        const int error = shm::send_message(fd, request, -1, MSG_DONTWAIT);
        if (error == 0 || error == EAGAIN) {
            return error == 0;
        }
        socket_.close();
    }
    if (last_attempt_ && Clock::now() - *last_attempt_ < kRetryInterval) {
        return false;
    }
    return open_socket(false) == 0 &&
           shm::send_message(socket_.get(), request, -1, MSG_DONTWAIT) == 0;
}

}  // namespace mempool::detail
