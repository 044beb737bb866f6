#include "daemon/control/server.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/system/error_code.hpp>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <utility>
#include <vector>

#include "daemon/base/fail.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

constexpr std::size_t kMaxSessions = 16384;
/// Kept free for root and the daemon's own user, so that an operator always gets in.
constexpr std::size_t kReserved = 16;
constexpr int kAcceptsPerTurn = 16;
constexpr std::chrono::milliseconds kAcceptPause{100};

// A client costs two descriptors, its connection and its pidfd; pools need some.
std::size_t affordable_sessions() noexcept {
    constexpr rlim_t kForPools = 256;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return kMaxSessions;
    }
    const rlim_t left = limit.rlim_cur > kForPools ? limit.rlim_cur - kForPools : 0;
    return std::clamp<std::size_t>(left / 2, 4 * kReserved, kMaxSessions);
}

// Says why and closes. What the peer has sent already is read, so that it sees the reply rather
// than a reset connection.
void turn_away(int connection, const std::string& why) {
    shm::send_message(connection, denial(EUSERS, why), -1, MSG_DONTWAIT);
    std::array<char, sizeof(shm::Request)> unread{};
    for (int k = 0; k < 4 && ::recv(connection, unread.data(), unread.size(), MSG_DONTWAIT) > 0;
         ++k) {
    }
}

}  // namespace

Server::Server(boost::asio::io_context& io, Service& service, int socket)
    : io_(io), service_(service), socket_(io), pause_(io), most_sessions_(affordable_sessions()) {
    // A duplicate: the descriptor closes what it was given.
    UniqueFd own{::fcntl(socket, F_DUPFD_CLOEXEC, 3)};
    if (!own) {
        fail(errno, "cannot keep the control socket");
    }
    socket_.assign(own.release());
}

void Server::start() { await_connection(); }

void Server::stop() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    pause_.cancel();
    const std::vector<std::shared_ptr<Session>> open(sessions_.begin(), sessions_.end());
    for (const auto& session : open) {
        session->close();
    }
}

void Server::await_connection() {
    socket_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [this](const boost::system::error_code& error) {
                           if (!error) {
                               accept_some();
                           }
                       });
}

void Server::accept_some() {
    for (int k = 0; k < kAcceptsPerTurn; ++k) {
        UniqueFd connection{
            ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (connection) {
            out_of_descriptors_ = false;
            admit(std::move(connection));
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause(errno);
            return;
        }
        if (errno != EINTR && errno != ECONNABORTED) {
            break;
        }
    }
    await_connection();
}

// Those who wait stay in the backlog: a moment later some descriptors may be free again.
void Server::pause(int error) {
    if (!std::exchange(out_of_descriptors_, true)) {
        log_error("cannot accept connections: {}; trying again every 100 ms (raise LimitNOFILE)",
                  std::generic_category().message(error));
    }
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this](const boost::system::error_code& aborted) {
        if (!aborted) {
            await_connection();
        }
    });
}

std::string Server::check_limits(const Peer& peer) const {
    if (is_trusted(peer)) {
        return sessions_.size() < most_sessions_
                   ? ""
                   : fmt::format(
                         "mempoold has its most connections ({}): end some clients, or "
                         "raise LimitNOFILE",
                         most_sessions_);
    }
    const std::size_t most = service_.max_connections_per_user != 0
                                 ? service_.max_connections_per_user
                                 : most_sessions_ / 4;
    const auto found = sessions_of_.find(peer.uid);
    if (found != sessions_of_.end() && found->second >= most) {
        return fmt::format(
            "uid {} has its most connections to mempoold ({}): end some, or raise "
            "max_connections_per_user",
            peer.uid, most);
    }
    return sessions_.size() + kReserved < most_sessions_
               ? ""
               : fmt::format(
                     "mempoold has its most connections ({}): end some clients, or raise "
                     "LimitNOFILE",
                     most_sessions_ - kReserved);
}

void Server::admit(UniqueFd connection) {
    std::uint64_t suppressed = 0;
    try {
        Peer peer = read_peer(connection.get());
        if (const std::string fault = check_limits(peer); !fault.empty()) {
            turn_away(connection.get(), fault);
            throw std::runtime_error(fault);
        }
        auto session = std::make_shared<Session>(
            io_, service_, std::move(connection), std::move(peer),
            [this](const std::shared_ptr<Session>& closed) { forget(closed); });
        sessions_.insert(session);
        ++sessions_of_[session->peer().uid];
        session->start();
    } catch (const std::exception& e) {
        if (service_.complaints.allow(LogRate::Clock::now(), suppressed)) {
            log_warning(
                "refusing a connection: {}{}", e.what(),
                suppressed == 0 ? "" : fmt::format(" ({} such lines were left out)", suppressed));
        }
    }
}

void Server::forget(const std::shared_ptr<Session>& closed) {
    const auto count = sessions_of_.find(closed->peer().uid);
    if (sessions_.erase(closed) != 0 && count != sessions_of_.end() && --count->second == 0) {
        sessions_of_.erase(count);
    }
}

}  // namespace mempoold
