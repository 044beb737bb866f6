// Accepts connections and keeps the sessions.
//
// Owned by Daemon. Knows nothing of requests; goes on when descriptors run out. No user but root
// and the daemon's own can take so many connections that others find none.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "daemon/control/requests.hpp"
#include "daemon/control/session.hpp"

namespace mempoold {

class Server {
public:
    /// `socket` is non-blocking and listens; it stays the caller's.
    Server(boost::asio::io_context& io, Service& service, int socket);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() = default;

    void start();
    /// Stops accepting and closes all sessions; clients live on without a connection.
    void stop();

private:
    void await_connection();
    void accept_some();
    void admit(UniqueFd connection);
    /// Why `peer` may not have one more connection; empty if it may.
    [[nodiscard]] std::string check_limits(const Peer& peer) const;
    void forget(const std::shared_ptr<Session>& closed);
    void pause(int error);

    boost::asio::io_context& io_;
    Service& service_;
    boost::asio::posix::stream_descriptor socket_;
    boost::asio::steady_timer pause_;
    std::unordered_set<std::shared_ptr<Session>> sessions_;
    std::unordered_map<uid_t, std::size_t> sessions_of_;
    const std::size_t most_sessions_;
    bool out_of_descriptors_ = false;
};

}  // namespace mempoold
