#include "daemon/control/session.hpp"

#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <utility>

#include "daemon/control/stranger.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
using boost::asio::posix::stream_descriptor;

/// How long a new connection may say nothing.
constexpr std::chrono::seconds kSilence{5};
/// Requests in a row before other connections have their turn.
constexpr int kRequestsPerTurn = 16;
/// How long a connection waits whose user has had its share of requests.
constexpr std::chrono::milliseconds kPause{50};

}  // namespace

Session::Session(boost::asio::io_context& io, Service& service, UniqueFd socket, Peer peer,
                 std::function<void(const std::shared_ptr<Session>&)> on_closed)
    : service_(service),
      socket_(io, socket.release()),
      silence_(io),
      pause_(io),
      on_closed_(std::move(on_closed)) {
    conversation_.socket = socket_.native_handle();
    conversation_.peer = std::move(peer);
    conversation_.accepted_ticks = ticks_since_boot();
}

void Session::start() {
    conversation_.hang_up = [weak = weak_from_this()] {
        if (const auto self = weak.lock()) {
            self->close();
        }
    };
    // Never from within the request: act_on() has ended before.
    conversation_.answer_late = [weak = weak_from_this(),
                                 loop = socket_.get_executor()](const Answer& answer) {
        boost::asio::post(loop, [weak, answer] {
            if (const auto self = weak.lock()) {
                self->answer_late(answer);
            }
        });
    };
    silence_.expires_after(kSilence);
    silence_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (!error && !self->spoke_) {
            self->close_for("it said nothing for 5 seconds");
        }
    });
    await_request();
}

void Session::await_request() {
    socket_.async_wait(stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                           if (!error && !self->closed_) {
                               self->receive_some();
                           }
                       });
}

void Session::receive_some() {
    for (int k = 0; k < kRequestsPerTurn && !closed_; ++k) {
        if (!conversation_.client && !is_trusted(conversation_.peer) &&
            !service_.request_budget.allow(conversation_.peer.uid, RequestBudget::Clock::now())) {
            pause();
            return;
        }
        try {
            if (!receive_one()) {
                break;
            }
        } catch (const std::exception& e) {
            close_for(fmt::format("its request could not be carried out: {}", e.what()));
        }
    }
    if (!closed_ && !owes_answer_) {
        await_request();
    }
}

// Its user has had its share: goes on a moment later.
void Session::pause() {
    pause_.expires_after(kPause);
    pause_.async_wait([self = shared_from_this()](const boost::system::error_code& aborted) {
        if (!aborted && !self->closed_) {
            self->receive_some();
        }
    });
}

// False if there is nothing more to receive now.
bool Session::receive_one() {
    shm::Request request;
    std::memset(static_cast<void*>(&request), 0, sizeof(request));
    if (carries_descriptors(conversation_.socket)) {
        close_for("it sent a descriptor");
        return false;
    }
    UniqueFd unwanted;  // none comes: see stranger.hpp
    const int error = shm::receive_message(conversation_.socket, request, unwanted, MSG_DONTWAIT);
    if (error == EAGAIN) {
        return false;
    }
    spoke_ = true;
    silence_.cancel();
    if (error == ENOTCONN || error == ECONNRESET) {
        close();
        return false;
    }
    if (request.magic == shm::kWireMagic && request.version != shm::kWireVersion &&
        (error == 0 || error == EPROTO) && request.version != 0) {
        Answer mismatch;
        mismatch.reply = version_mismatch(request.version);
        if (send(mismatch)) {
            close_for(fmt::format("it speaks wire version {}", request.version));
        }
        return false;
    }
    if (error != 0) {
        close_for(error == EPROTO ? "it sent what is no request"
                                  : std::generic_category().message(error));
        return false;
    }
    return act_on(handle_request(service_, conversation_, request));
}

bool Session::act_on(const Answer& answer) {
    switch (answer.action) {
        case Answer::Action::kNothing:
            return !closed_;
        case Answer::Action::kLater:
            owes_answer_ = true;
            return false;
        case Answer::Action::kHangUp:
            close_for("it sent " + answer.fault);
            return false;
        case Answer::Action::kReply:
            break;
    }
    if (closed_) {
        return false;  // what was asked for has ended this connection
    }
    const bool sent = send(answer);
    if (sent && conversation_.client) {
        conversation_.client->reply_sent();
    }
    return sent;
}

void Session::answer_late(const Answer& answer) {
    if (closed_ || !owes_answer_) {
        return;
    }
    owes_answer_ = false;
    if (act_on(answer)) {
        await_request();
    }
}

bool Session::send(const Answer& answer) {
    const bool passes = answer.passed_fd >= 0;
    if (passes && has_unread_descriptor()) {
        close_for("it wants a descriptor and has not read its last replies");
        return false;
    }
    const int error =
        answer.data.empty()
            ? shm::send_message(conversation_.socket, answer.reply, answer.passed_fd, MSG_DONTWAIT)
            : shm::send_data(conversation_.socket, answer.reply, answer.data.data(),
                             answer.data.size(), MSG_DONTWAIT);
    if (error == 0) {
        passed_descriptor_ = passed_descriptor_ || passes;
        return true;
    }
    if (error == ETOOMANYREFS) {
        const char* why =
            "too many descriptors that mempoold's user has passed to others are still unread: end "
            "those that don't read them, or raise LimitNOFILE (ulimit -n) of mempoold";
        shm::send_message(conversation_.socket, denial(error, why), -1, MSG_DONTWAIT);
        close_for(why);
        return false;
    }
    if (error == EPIPE || error == ECONNRESET) {
        close();
    } else {
        close_for(error == EAGAIN
                      ? "it does not read its replies"
                      : "a reply could not be sent: " + std::generic_category().message(error));
    }
    return false;
}

void Session::close_for(const std::string& fault) {
    std::uint64_t suppressed = 0;
    if (!closed_ && service_.complaints.allow(LogRate::Clock::now(), suppressed)) {
        log_warning(
            "closing the connection of pid {} (uid {}): {}{}", conversation_.peer.pid,
            conversation_.peer.uid, fault,
            suppressed == 0 ? "" : fmt::format(" ({} such lines were left out)", suppressed));
    }
    close();
}

void Session::close() {
    if (std::exchange(closed_, true)) {
        return;
    }
    const auto self = shared_from_this();
    silence_.cancel();
    pause_.cancel();
    // First: a peer that sees the end of its connection finds its id free.
    if (const auto client = std::exchange(conversation_.client, nullptr)) {
        client->connection_ended();
    }
    conversation_.pool = nullptr;
    on_closed_(self);
}

bool Session::has_unread_descriptor() const noexcept {
    return passed_descriptor_ && has_unread_replies(conversation_.socket);
}

}  // namespace mempoold
