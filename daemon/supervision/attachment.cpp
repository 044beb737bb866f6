#include "daemon/supervision/attachment.hpp"

#include <fcntl.h>

#include <boost/system/error_code.hpp>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/supervision/supervisor.hpp"
#include "daemon/supervision/token.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

/// How often it is asked whether a client with a connection still maps the pool: its process may
/// have executed another program while a child of it keeps the connection open.
constexpr std::chrono::seconds kLookAtConnected{10};

}  // namespace

const char* Attachment::describe(Ending how) {
    switch (how) {
        case Ending::kLeft:
            return "left";
        case Ending::kDied:
            return "died";
        case Ending::kUnmapped:
            return "no longer maps the pool";
        case Ending::kNotServed:
            break;
    }
    return "did not take its reply";
}

Attachment::Attachment(Supervisor& supervisor, boost::asio::io_context& io,
                       std::shared_ptr<ServedPool> of_pool, shm::ClientId as_id, Stage stage)
    : supervisor_(supervisor),
      pool_(std::move(of_pool)),
      id_(as_id),
      stage_(stage),
      process_(io),
      next_look_(Clock::now() + kLookAtConnected) {}

void Attachment::watch(UniqueFd pidfd) {
    if (!pidfd || process_.is_open()) {
        return;
    }
    supervisor_.keep_pidfd(*this, pidfd.get());
    process_.assign(pidfd.release());
    pool_->clients().show_as_unseen(id_, false);
    await_end();
}

void Attachment::await_end() {
    process_.async_wait(
        boost::asio::posix::stream_descriptor::wait_read,
        [weak = weak_from_this()](const boost::system::error_code& error) {
            const auto still = weak.lock();
            if (!still || !still->is_live() || error == boost::asio::error::operation_aborted) {
                return;
            }
            if (error || !has_ended(still->process_.native_handle())) {
                still->await_end();
                return;
            }
            still->process_ended();
        });
}

void Attachment::serve(std::function<void()> hang_up) { hang_up_ = std::move(hang_up); }

void Attachment::reply_sent() noexcept {
    if (stage_ == Stage::kOffered) {
        stage_ = Stage::kConnected;
    }
}

void Attachment::connection_ended() {
    hang_up_ = nullptr;
    if (stage_ == Stage::kOffered) {
        clear(Ending::kNotServed);
    } else if (stage_ == Stage::kConnected) {
        stage_ = Stage::kApart;
        if (!look()) {
            log_debug("pool '{}': client {} lost its connection and lives on", pool_->name(),
                      raw(id_));
        }
    }
}

bool Attachment::is_proved_by(std::uint64_t token, std::uint64_t epoch) const {
    return token != 0 && epoch == pool_->clients().epoch(id_) &&
           hash_of_token(token) == pool_->clients().identity(id_).token_hash;
}

bool Attachment::say_goodbye(std::uint64_t token) {
    if (token == 0 || hash_of_token(token) != pool_->clients().identity(id_).token_hash) {
        return false;
    }
    if (is_live()) {
        clear(Ending::kLeft);
    }
    return true;
}

void Attachment::resume(UniqueFd pidfd, const ProcessId& process, std::function<void()> hang_up) {
    stage_ = Stage::kApart;  // so that the former connection's end is none
    this->hang_up();
    stage_ = Stage::kConnected;
    hang_up_ = std::move(hang_up);
    if (!process_.is_open() && pidfd) {
        pool_->clients().set_process(id_, process);
        watch(std::move(pidfd));
    }
}

Attachment::Ended Attachment::end_by_operator(bool force) {
    Ended done;
    if (!is_live()) {
        return done;
    }
    const bool first = stage_ != Stage::kEnded;
    stage_ = Stage::kEnded;
    const ServedPool::EndedClient taken = pool_->end_client(id_, force);
    done = {
        .slots = taken.slots, .magazines = taken.magazines, .left = taken.left, .busy = taken.busy};
    if (first || force) {
        log_warning(
            "pool '{}': client {} (pid {}, {}) was ended by an operator{}; {} slots and {} "
            "magazines "
            "taken back, {} slots are left to it until its process has ended",
            pool_->name(), raw(id_), pool_->clients().identity(id_).process.pid,
            pool_->clients().identity(id_).command, force ? ", by force" : "", done.slots,
            done.magazines, done.left);
    }
    hang_up();
    return done;
}

void Attachment::process_ended() {
    if (is_live()) {
        clear(Ending::kDied);
    }
}

bool Attachment::look() {
    if (!is_live() || stage_ == Stage::kOffered) {
        return !is_live();
    }
    if (process_.is_open()) {
        if (has_ended(process_.native_handle())) {
            clear(Ending::kDied);
            return true;
        }
    } else {
        UniqueFd pidfd;
        switch (judge(pool_->clients().identity(id_).process, pidfd)) {
            case Fate::kAlive:
                watch(std::move(pidfd));
                break;
            case Fate::kDead:
                clear(Ending::kDied);
                return true;
            case Fate::kUnknown:
                break;
        }
    }
    if (pool_->clients().says_leaving(id_)) {
        clear(Ending::kLeft);
        return true;
    }
    if (stage_ == Stage::kEnded) {
        pool_->end_client(id_, false);  // what was busy the last time
    }
    look_at_mapping();
    return false;
}

void Attachment::look_at_mapping() {
    const auto now = Clock::now();
    if (looking_ || !process_.is_open() || (stage_ == Stage::kConnected && now < next_look_)) {
        return;
    }
    UniqueFd pidfd{::fcntl(process_.native_handle(), F_DUPFD_CLOEXEC, 3)};
    if (!pidfd) {
        return;
    }
    looking_ = true;
    next_look_ = now + kLookAtConnected;
    struct Look {
        UniqueFd pidfd;
        ProcessId process;
        MappedFile file;
        Mapping found = Mapping::kUnknown;
    };
    const auto job = std::make_shared<Look>();
    job->pidfd = std::move(pidfd);
    job->process = pool_->clients().identity(id_).process;
    job->file = {
        .device = pool_->storage().device(),
        .inode = pool_->storage().inode(),
        .address =
            pool_->view().lane(shm::LaneId{raw(id_)}).mapped_at.load(std::memory_order_relaxed)};
    supervisor_.worker().submit(
        [job] { job->found = find_mapping(job->pidfd.get(), job->process, job->file); },
        [job, self = shared_from_this()] {
            self->looking_ = false;
            if (job->found == Mapping::kAbsent && self->is_live() &&
                self->stage_ != Stage::kOffered) {
                self->clear(Ending::kUnmapped);
            }
        });
}

void Attachment::clear(Ending how) {
    stage_ = Stage::kClearing;
    supervisor_.forget_pidfd(*this);
    process_.close();
    // A process that has said goodbye and then ended has not died on us.
    const bool leaving = how == Ending::kLeft || pool_->clients().says_leaving(id_);
    const bool died = !leaving && how != Ending::kNotServed;
    pool_->detach(id_, died, [self = shared_from_this(), how, died](const shm::Reclaimed& taken) {
        self->cleared(taken, how, died);
    });
}

void Attachment::cleared(const shm::Reclaimed& taken, Ending how, bool died) {
    if (stage_ == Stage::kGone) {
        return;  // the pool was given up meanwhile
    }
    stage_ = Stage::kGone;
    const ClientIdentity& identity = pool_->clients().identity(id_);
    log_line(
        died ? LogLevel::kInfo : LogLevel::kDebug,
        fmt::format("pool '{}': client {} (pid {}, {}) {}; {} slots and {} magazines taken back",
                    pool_->name(), raw(id_), identity.process.pid, identity.command, describe(how),
                    taken.slots, taken.magazines));
    supervisor_.forget(*this);
    hang_up();  // last: who sees the end of the connection finds the id free
}

void Attachment::abandon() {
    stage_ = Stage::kGone;
    process_.close();
    hang_up();
}

void Attachment::hang_up() {
    if (hang_up_) {
        std::exchange(hang_up_, nullptr)();
    }
}

}  // namespace mempoold
