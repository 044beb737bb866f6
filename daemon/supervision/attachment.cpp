#include "daemon/supervision/attachment.hpp"

#include <fcntl.h>

#include <algorithm>
#include <boost/system/error_code.hpp>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/supervision/supervisor.hpp"
#include "daemon/supervision/token.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

/// How often it is asked whether a client with a connection still maps the pool: its process may
/// have executed another program while a child of it keeps the connection open. One without a
/// connection is looked at soon, and then less and less often.
constexpr std::chrono::seconds kLookAtConnected{10};
constexpr std::chrono::seconds kFirstLook{1};
/// A connection mostly ends because its process does, whose pidfd says so within this time.
constexpr std::chrono::milliseconds kExit{200};

/// Where the client mapped the pool, from what it wrote: a page's address, and in the bits that are
/// zero there the low bits of its epoch. 0: it has not said, or somebody else wrote that.
std::uint64_t address_of(std::uint64_t mapped_at, std::uint32_t epoch) {
    constexpr std::uint64_t kInPage = shm::kPage - 1;
    return (mapped_at & kInPage) == (epoch & kInPage) ? mapped_at & ~kInPage : 0;
}

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
      first_epoch_(pool_->clients().epoch(id_) - (stage == Stage::kEnded ? 1U : 0U)) {
    look_soon();
}

// Also where it has just shown that it is there: what was read before counts no more.
void Attachment::look_soon() {
    ++confirmations_;
    seen_absent_ = false;
    look_pause_ = kFirstLook;
    next_look_ = Clock::now() + (stage_ == Stage::kConnected ? kLookAtConnected : kExit);
}

ClientName Attachment::stored_name() const {
    return {.pool_key = pool_->storage().key(), .id = raw(id_), .epoch = first_epoch_};
}

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
        look_soon();
    }
}

void Attachment::connection_ended() {
    hang_up_ = nullptr;
    if (stage_ == Stage::kOffered) {
        clear(Ending::kNotServed);
    } else if (stage_ == Stage::kConnected) {
        stage_ = Stage::kApart;
        look_soon();
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
    look_soon();
    hang_up_ = std::move(hang_up);
    if (!process_.is_open() && pidfd) {
        if (process.pid != 0) {  // else what the record says may be of use to the next daemon
            pool_->clients().set_process(id_, process);
        }
        watch(std::move(pidfd));
    }
}

void Attachment::end_by_operator(bool force, std::function<void(const Ended&)> done) {
    if (!is_live() || taking_) {
        done({});
        return;
    }
    const bool first = stage_ != Stage::kEnded;
    stage_ = Stage::kEnded;
    taking_ = true;
    pool_->end_client(id_, force,
                      [self = shared_from_this(), first, force,
                       done = std::move(done)](const ServedPool::EndedClient& taken) {
                          self->ended(taken, first, force);
                          done({.slots = taken.slots,
                                .magazines = taken.magazines,
                                .left = taken.left,
                                .busy = taken.busy});
                      });
    hang_up();
}

void Attachment::ended(const ServedPool::EndedClient& taken, bool first, bool force) {
    taking_ = false;
    busy_lanes_ = taken.busy;
    if (first || force) {
        const ClientIdentity& identity = pool_->clients().identity(id_);
        log_warning(
            "pool '{}': client {} (pid {}, {}) was ended by an operator{}; {} slots and {} "
            "magazines "
            "taken back, {} slots are left to it until its process has ended",
            pool_->name(), raw(id_), identity.process.pid, identity.command,
            force ? ", by force" : "", taken.slots, taken.magazines, taken.left);
    }
    if (end_after_ && is_live()) {
        clear(*end_after_);
    }
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
    if (stage_ == Stage::kEnded && busy_lanes_ != 0) {
        busy_lanes_ = pool_->shut_out(id_);
    }
    look_at_mapping();
    return false;
}

// It may take a while, and the worker has other work: the supervisor decides when.
void Attachment::look_at_mapping() {
    // One that has a connection and has not mapped the pool yet takes its time: that is no end.
    if (process_.is_open() && Clock::now() >= next_look_ && !look_queued_ &&
        (stage_ != Stage::kConnected || mapped_at() != 0)) {
        look_queued_ = true;
        supervisor_.queue_look(shared_from_this());
    }
}

std::uint64_t Attachment::mapped_at() const noexcept {
    return address_of(
        pool_->view().lane(shm::LaneId{raw(id_)}).mapped_at.load(std::memory_order_relaxed),
        first_epoch_);
}

std::shared_ptr<Attachment::Look> Attachment::begin_look() {
    look_queued_ = false;
    if (!is_live() || !process_.is_open()) {
        return nullptr;
    }
    auto look = std::make_shared<Look>();
    look->pidfd.reset(::fcntl(process_.native_handle(), F_DUPFD_CLOEXEC, 3));
    if (!look->pidfd) {
        return nullptr;
    }
    look_pause_ = std::min<Clock::duration>(2 * look_pause_, kLookAtConnected);
    next_look_ = Clock::now() + look_pause_;
    look->process = pool_->clients().identity(id_).process;
    look->file = {.device = pool_->storage().device(),
                  .inode = pool_->storage().inode(),
                  .address = mapped_at()};
    look->confirmations = confirmations_;
    return look;
}

// Absent counts if the next look says so too, and the client has not shown itself in between: while
// the first was read it may have been about to map the pool.
void Attachment::looked(const Look& look) {
    if (!is_live() || stage_ == Stage::kOffered) {
        return;
    }
    if (look.confirmations != confirmations_ || look.found != Mapping::kAbsent) {
        seen_absent_ = false;
    } else if (std::exchange(seen_absent_, true)) {
        clear(Ending::kUnmapped);
    } else {
        next_look_ = Clock::now();
        supervisor_.look_again(shared_from_this());
    }
}

void Attachment::clear(Ending how) {
    if (taking_) {
        end_after_ = how;  // its slots are being taken by its id, which would be another's then
        return;
    }
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
