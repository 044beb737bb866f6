#include "daemon/server.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <boost/system/error_code.hpp>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>
#include <vector>

namespace mempoold {

namespace {

constexpr std::size_t kMaxSessions = 4096;
constexpr int kAcceptsPerTurn = 16;
constexpr std::chrono::milliseconds kPause{100};

}  // namespace

Server::Server(boost::asio::io_context& io, Service& service, int socket)
    : io_(io), service_(service), socket_(io), pause_(io) {
    // A duplicate: the descriptor closes what it was given.
    UniqueFd own{::fcntl(socket, F_DUPFD_CLOEXEC, 3)};
    if (!own) {
        throw std::system_error(errno, std::generic_category(), "cannot keep the control socket");
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
    pause_.expires_after(kPause);
    pause_.async_wait([this](const boost::system::error_code& aborted) {
        if (!aborted) {
            await_connection();
        }
    });
}

void Server::admit(UniqueFd connection) {
    std::uint64_t suppressed = 0;
    if (sessions_.size() >= kMaxSessions) {
        if (service_.complaints.allow(LogRate::Clock::now(), suppressed)) {
            log_warning("refusing a connection: there are {} already", sessions_.size());
        }
        return;
    }
    try {
        Peer peer = read_peer(connection.get());
        auto session = std::make_shared<Session>(
            io_, service_, std::move(connection), std::move(peer),
            [this](const std::shared_ptr<Session>& closed) { sessions_.erase(closed); });
        sessions_.insert(session);
        session->start();
    } catch (const std::exception& e) {
        if (service_.complaints.allow(LogRate::Clock::now(), suppressed)) {
            log_warning("refusing a connection: {}", e.what());
        }
    }
}

}  // namespace mempoold
