#include "daemon/control/server.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/system/error_code.hpp>
#include <cerrno>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "daemon/base/fail.hpp"
#include "daemon/control/stranger.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

constexpr std::size_t kMaxSessions = 16384;
/// Kept free for root and the daemon's own user, so that an operator always gets in.
constexpr std::size_t kReserved = 16;
constexpr int kAcceptsPerTurn = 16;
constexpr std::chrono::milliseconds kAcceptPause{100};

constexpr std::chrono::milliseconds kUnreadPause{200};

// What the daemon opens for a moment (files below /proc, a segment it makes), its stdio, timers.
/// Connections of one user that may be closing at once, before it gets no more.
constexpr int kMostClosings = 16;
constexpr int kOwn = 32;
constexpr int kOfAClient = 2;   // its connection and its pidfd
constexpr int kOfASegment = 2;  // for the daemon, for clients
constexpr int kOfAPool = 1;     // the lock
/// How many segments more each pool that may grow is sure to find room for.
constexpr int kSegmentsToCome = 4;

int descriptor_limit() noexcept {
    rlimit limit{};
    constexpr rlim_t kMost = std::numeric_limits<int>::max();
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0
               ? static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kMost))
               : 1024;
}

// Says why and closes. What the peer has sent already is read, so that it sees the reply rather
// than a reset connection.
void turn_away(UniqueFd connection, Closings closings, int error, const std::string& why) {
    const int fd = connection.get();
    shm::send_message(fd, denial(error, why), -1, MSG_DONTWAIT);
    std::array<char, sizeof(shm::Request)> unread{};
    for (int k = 0; k < 4 && !carries_descriptors(fd) &&
                    ::recv(fd, unread.data(), unread.size(), MSG_DONTWAIT) > 0;
         ++k) {
    }
    close_stranger(std::move(connection), std::move(closings));
}

UniqueFd open_spare() noexcept { return UniqueFd{::open("/dev/null", O_RDONLY | O_CLOEXEC)}; }

}  // namespace

Server::Server(boost::asio::io_context& io, Service& service, int socket,
               std::function<void()> on_connection)
    : io_(io),
      service_(service),
      on_connection_(std::move(on_connection)),
      socket_(io),
      pause_(io),
      unread_timer_(io),
      spare_(open_spare()) {
    take_socket(socket);
}

// A duplicate: the descriptor closes what it was given. The former one stays where this throws.
void Server::take_socket(int socket) {
    refuse_descriptors(socket);
    UniqueFd own{::fcntl(socket, F_DUPFD_CLOEXEC, 3)};
    if (!own) {
        fail(errno, "cannot keep the control socket");
    }
    boost::asio::posix::stream_descriptor next(io_);
    next.assign(own.get());
    static_cast<void>(own.release());
    socket_ = std::move(next);
    ++sockets_;
}

void Server::start() { await_connection(); }

void Server::listen_at(int socket) {
    take_socket(socket);
    pause_.cancel();
    await_connection();
}

void Server::stop() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    pause_.cancel();
    unread_timer_.cancel();
    const std::vector<std::shared_ptr<Session>> open(sessions_.begin(), sessions_.end());
    for (const auto& session : open) {
        session->close();
    }
}

void Server::await_connection() {
    socket_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [this, socket = sockets_](const boost::system::error_code& error) {
                           if (!error && socket == sockets_) {
                               accept_some();
                           }
                       });
}

// Anew for each turn: pools come and grow, and prlimit(1) may have raised the limit.
void Server::reckon() {
    DescriptorBudget budget;
    budget.most = descriptor_limit();
    int present = 0;
    int to_come = 0;
    for (const auto& [name, pool] : service_.pools) {
        const Storage& storage = pool->storage();
        const auto segments = static_cast<int>(storage.segments().size());
        present += kOfAPool + segments * kOfASegment;
        if (storage.slots() < storage.geometry().shape.max_slots) {
            to_come += std::min(kSegmentsToCome, static_cast<int>(shm::kMaxSegments) - segments) *
                       kOfASegment;
        }
    }
    // Pools that may grow some day leave clients that are there today most of what is left.
    to_come = std::clamp((budget.most - present) / 4, 0, to_come);
    budget.pools = present + to_come;
    budget.for_clients = std::max(budget.most - kOwn - to_come, 0);
    service_.budget = budget;
    const int left = std::max(budget.for_clients - kOwn - present, 0) / kOfAClient;
    most_sessions_ = std::clamp<std::size_t>(static_cast<std::size_t>(left), 1, kMaxSessions);
}

void Server::accept_some() {
    reckon();
    for (int k = 0; k < kAcceptsPerTurn; ++k) {
        UniqueFd connection{
            ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (connection) {
            out_of_descriptors_ = false;
            admit(std::move(connection));
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            const int error = errno;
            if (refuse_by_spare()) {
                continue;
            }
            pause(error);
            return;
        }
        if (errno != EINTR && errno != ECONNABORTED) {
            break;
        }
    }
    await_connection();
}

// Who connects while descriptors have run out is told so, instead of waiting in the backlog.
bool Server::refuse_by_spare() {
    if (!spare_) {
        spare_ = open_spare();
        return false;
    }
    spare_.reset();
    UniqueFd connection{
        ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    const bool accepted = static_cast<bool>(connection);
    if (accepted) {
        // Of no known user: to read who it is would take a descriptor more.
        turn_away(std::move(connection), closings_of(static_cast<uid_t>(-1)), EMFILE,
                  service_.budget.explain());
        complain(service_.budget.explain());
    }
    spare_ = open_spare();
    return accepted;
}

// Those who wait stay in the backlog: a moment later some descriptors may be free again.
void Server::pause(int error) {
    if (!std::exchange(out_of_descriptors_, true)) {
        log_error("cannot accept connections: {}; trying again every 100 ms (raise LimitNOFILE)",
                  std::generic_category().message(error));
    }
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this, socket = sockets_](const boost::system::error_code& aborted) {
        if (!aborted && socket == sockets_) {
            await_connection();
        }
    });
}

Server::Refusal Server::check_limits(const Peer& peer, int connection) {
    if (is_trusted(peer)) {
        return sessions_.size() < kMaxSessions + kReserved ? Refusal{} : at_limit(kMaxSessions);
    }
    const std::size_t most = service_.max_connections_per_user != 0
                                 ? service_.max_connections_per_user
                                 : std::max<std::size_t>(most_sessions_ / 4, 1);
    const auto found = sessions_of_.find(peer.uid);
    const std::size_t has = found == sessions_of_.end() ? 0 : found->second;
    if (has >= most) {
        return {EUSERS, fmt::format("uid {} is at its limit of {} connections to mempoold: end "
                                    "some, or raise max_connections_per_user",
                                    peer.uid, most)};
    }
    if (const int closings = *closings_of(peer.uid); closings >= kMostClosings) {
        return {EUSERS, fmt::format("{} connections of uid {} cannot be closed yet, because of "
                                    "descriptors that came along: wait until they are",
                                    closings, peer.uid)};
    }
    if (connection >= service_.budget.for_clients) {
        return {EMFILE, service_.budget.explain()};
    }
    // So that several users together can't take all: each can have half of what the others leave,
    // and who comes last finds some.
    const std::size_t taken = sessions_.size() + unread_.size();
    const std::size_t free = most_sessions_ - std::min(taken, most_sessions_);
    if (free == 0) {
        return at_limit(most_sessions_);
    }
    if (has >= free) {
        return {EUSERS, fmt::format("uid {} has {} connections to mempoold, and the last {} are "
                                    "kept for others: end some, or raise LimitNOFILE (ulimit -n) "
                                    "of mempoold",
                                    peer.uid, has, free)};
    }
    return {};
}

Server::Refusal Server::at_limit(std::size_t most) {
    return {EUSERS,
            fmt::format("mempoold is at its limit of {} connections: end some clients", most)};
}

void Server::admit(UniqueFd connection) {
    try {
        Peer peer = read_peer(connection.get());
        if (Refusal refusal = check_limits(peer, connection.get()); refusal.error != 0) {
            turn_away(std::move(connection), closings_of(peer.uid), refusal.error, refusal.why);
            complain(refusal.why);
            return;
        }
        auto session = std::make_shared<Session>(
            io_, service_, std::move(connection), std::move(peer),
            [this](const std::shared_ptr<Session>& closed) { forget(closed); });
        sessions_.insert(session);
        ++sessions_of_[session->peer().uid];
        session->start();
        on_connection_();
    } catch (const std::exception& e) {
        complain(e.what());
    }
}

void Server::complain(const std::string& why) {
    std::uint64_t suppressed = 0;
    if (service_.complaints.allow(LogRate::Clock::now(), suppressed)) {
        log_warning(
            "refusing a connection: {}{}", why,
            suppressed == 0 ? "" : fmt::format(" ({} such lines were left out)", suppressed));
    }
}

void Server::forget(const std::shared_ptr<Session>& closed) {
    if (sessions_.erase(closed) == 0) {
        return;
    }
    const uid_t uid = closed->peer().uid;
    const bool unread = closed->has_unread_descriptor();
    UniqueFd connection = closed->take_socket();
    if (!unread) {
        close_stranger(std::move(connection), closings_of(uid));
        count_out(uid);
        return;
    }
    // Still counts as its user's: else each connection that is closed so would leave one more
    // descriptor in flight, until none could be passed to anybody.
    ::shutdown(connection.get(), SHUT_RDWR);
    unread_.emplace_back(std::move(connection), uid);
    if (unread_.size() == 1) {
        await_reading();
    }
}

Closings Server::closings_of(uid_t uid) {
    Closings& closings = closings_of_[uid];
    if (!closings) {
        closings = std::make_shared<std::atomic<int>>(0);
    }
    return closings;
}

void Server::count_out(uid_t uid) {
    const auto count = sessions_of_.find(uid);
    if (count != sessions_of_.end() && --count->second == 0) {
        sessions_of_.erase(count);
    }
}

void Server::await_reading() {
    unread_timer_.expires_after(kUnreadPause);
    unread_timer_.async_wait([this](const boost::system::error_code& aborted) {
        if (aborted) {
            return;
        }
        std::erase_if(unread_, [this](auto& item) {
            if (has_unread_replies(item.first.get())) {
                return false;
            }
            close_stranger(std::move(item.first), closings_of(item.second));
            count_out(item.second);
            return true;
        });
        if (!unread_.empty()) {
            await_reading();
        }
    });
}

}  // namespace mempoold
