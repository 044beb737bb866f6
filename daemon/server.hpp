// Accepts connections and keeps the sessions.
//
// Owned by Daemon. Knows nothing of requests; goes on when descriptors run out.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <unordered_set>

#include "daemon/requests.hpp"
#include "daemon/session.hpp"

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
    void pause(int error);

    boost::asio::io_context& io_;
    Service& service_;
    boost::asio::posix::stream_descriptor socket_;
    boost::asio::steady_timer pause_;
    std::unordered_set<std::shared_ptr<Session>> sessions_;
    bool out_of_descriptors_ = false;
};

}  // namespace mempoold
