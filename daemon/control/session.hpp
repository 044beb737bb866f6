// One connection on the control socket: receives, has requests carried out, sends replies.
//
// Made by Server for each connection; lives until it is closed from either side. Blocks for nobody:
// a peer that doesn't read its replies is closed.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "daemon/control/requests.hpp"

namespace mempoold {

class Session : public std::enable_shared_from_this<Session> {
public:
    /// `on_closed` is called once, when the session has ended. It then must take the socket.
    Session(boost::asio::io_context& io, Service& service, UniqueFd socket, Peer peer,
            std::function<void(const std::shared_ptr<Session>&)> on_closed);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() = default;

    void start();
    [[nodiscard]] const Peer& peer() const noexcept { return conversation_.peer; }
    /// Closes the connection, whatever its client then is: gone, or alive without one.
    void close();

    /// Whether the peer has not read a reply that passed a descriptor.
    [[nodiscard]] bool has_unread_descriptor() const noexcept;
    /// The connection, once the session has closed.
    UniqueFd take_socket() { return UniqueFd{socket_.release()}; }

private:
    void await_request();
    void receive_some();
    bool receive_one();
    void pause();
    /// Sends a reply, or does what else the answer wants; false if nothing more is to be received
    /// now.
    bool act_on(const Answer& answer);
    void answer_late(const Answer& answer);
    bool send(const Answer& answer);
    /// Closes with a reason that is logged, unless there are too many.
    void close_for(const std::string& fault);

    Service& service_;
    boost::asio::posix::stream_descriptor socket_;
    boost::asio::steady_timer silence_;
    boost::asio::steady_timer pause_;
    Conversation conversation_;
    std::function<void(const std::shared_ptr<Session>&)> on_closed_;
    bool passed_descriptor_ = false;
    bool spoke_ = false;
    bool owes_answer_ = false;  // receives nothing more until it has sent that
    bool closed_ = false;
};

}  // namespace mempoold
