// Accepts connections and keeps the sessions.
//
// Owned by Daemon. Knows nothing of requests. When descriptors run out it goes on, and says so to
// who connects. No user except root and the daemon's own can take so many connections, or leave so
// many descriptors unread, that others get none.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "daemon/control/requests.hpp"
#include "daemon/control/session.hpp"
#include "daemon/control/stranger.hpp"

namespace mempoold {

class Server {
public:
    /// `socket` is non-blocking and listens; it stays the caller's. `on_connection` is called for
    /// each connection that is admitted.
    Server(boost::asio::io_context& io, Service& service, int socket,
           std::function<void()> on_connection);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() = default;

    void start();
    /// Goes on with another socket, as the constructor's, once start() was called.
    void listen_at(int socket);
    /// Stops accepting and closes all sessions; clients live on without a connection.
    void stop();

private:
    void take_socket(int socket);
    void await_connection();
    void accept_some();
    void reckon();
    bool refuse_by_spare();
    void admit(UniqueFd connection);
    /// An errno, and what the peer is told; 0: it is served.
    struct Refusal {
        int error = 0;
        std::string why;
    };
    [[nodiscard]] Refusal check_limits(const Peer& peer, int connection);
    [[nodiscard]] static Refusal at_limit(std::size_t most);
    void complain(const std::string& why);
    void forget(const std::shared_ptr<Session>& closed);
    void count_out(uid_t uid);
    [[nodiscard]] Closings closings_of(uid_t uid);
    void await_reading();
    void pause(int error);

    boost::asio::io_context& io_;
    Service& service_;
    const std::function<void()> on_connection_;
    boost::asio::posix::stream_descriptor socket_;
    std::uint32_t sockets_ = 0;  ///< so many it has had; who waited for a former one does nothing
    boost::asio::steady_timer pause_;
    std::unordered_set<std::shared_ptr<Session>> sessions_;
    std::unordered_map<uid_t, std::size_t> sessions_of_;
    std::unordered_map<uid_t, Closings> closings_of_;
    /// Connections that are over, whose peers have not read a descriptor yet.
    std::vector<std::pair<UniqueFd, uid_t>> unread_;
    boost::asio::steady_timer unread_timer_;
    UniqueFd spare_;  ///< to be given up for refusing with a reason when there is no other
    std::size_t most_sessions_ = 1;
    bool out_of_descriptors_ = false;
};

}  // namespace mempoold
