// One client of one pool, from its attach to the moment its id is free: all its states, and what
// leads from one to the next.
//
// Made by the Supervisor; told what happens by sessions (a connection), the kernel (a pidfd), an
// operator, and the once-a-second look; all on the daemon's one thread. Decides by the process,
// never by a heartbeat or by the connection alone. Ends nobody whose death is not certain.
//
//   offered    its id is taken; the reply that tells it so is not sent yet
//   connected  a session serves it
//   apart      no connection: it lost that, or attached to a former daemon
//   ended      an operator ended it; its process may live and write where it could write
//   clearing   its process has ended, or promised to touch nothing more; what it had is taken back
//   gone       its id is free, or the pool is not served any more
//
//                 offered     connected   apart       ended       clearing
//   reply sent    connected   –           –           –           –
//   reply lost    clearing    –           –           –           –
//   connection
//     ends        clearing    apart       –           –           –
//   goodbye       –           clearing    clearing¹   clearing¹   –
//   resume        –           connected²  connected   refused     refused
//   process
//     ends        clearing    clearing    clearing    clearing    –  (a second death is none)
//   unmapped      –           clearing    clearing    clearing    –
//   operator
//     ends it     ended       ended       ended       ended³      –
//   all is back   –           –           –           –           gone
//   SIGTERM, or
//   the daemon
//     dies        as apart    apart       apart       ended       its id counts as dead at the next
//                                                                 start, and so does client 0,
//                                                                 which has what was being erased
//
//   ¹ written into shared memory, and proved, while no daemon was there to hear it
//   ² the former connection is closed   ³ more of its idle caches are taken
//
// A resume and a goodbye need the token. One who cannot be seen (no pidfd, numbers of another
// namespace) counts as alive: only a goodbye, a resume or an operator changes that.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "daemon/storage/fd_store.hpp"
#include "daemon/supervision/process.hpp"
#include "daemon/supervision/served_pool.hpp"

namespace mempoold {

class Supervisor;

class Attachment : public std::enable_shared_from_this<Attachment> {
public:
    enum class Stage : std::uint8_t { kOffered, kConnected, kApart, kEnded, kClearing, kGone };

    /// What an operator's end came to.
    struct Ended {
        std::uint64_t slots = 0;      ///< taken back
        std::uint64_t magazines = 0;  ///< taken back
        std::uint64_t left = 0;       ///< slots it still holds
        std::uint32_t busy = 0;       ///< its lanes in mid-operation: with any, no slot is taken
    };

    Attachment(Supervisor& supervisor, boost::asio::io_context& io,
               std::shared_ptr<ServedPool> of_pool, mempool::shm::ClientId as_id, Stage stage);
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;
    ~Attachment() = default;

    [[nodiscard]] const std::shared_ptr<ServedPool>& pool() const noexcept { return pool_; }
    [[nodiscard]] mempool::shm::ClientId id() const noexcept { return id_; }
    [[nodiscard]] Stage stage() const noexcept { return stage_; }
    /// The process's pidfd; -1: it cannot be seen.
    [[nodiscard]] int pidfd() noexcept {
        return process_.is_open() ? process_.native_handle() : -1;
    }
    /// Under which its pidfd waits for the next daemon.
    [[nodiscard]] ClientName stored_name() const;
    [[nodiscard]] bool is_live() const noexcept { return stage_ < Stage::kClearing; }

    /// Takes over the pidfd of its process and waits for its end.
    void watch(UniqueFd pidfd);

    /// A session serves it; `hang_up` closes that session, once.
    void serve(std::function<void()> hang_up);
    void reply_sent() noexcept;
    /// The session's connection has ended.
    void connection_ended();
    /// The client says that it is done and has unmapped the pool; false if `token` does not prove
    /// that it says so.
    bool say_goodbye(std::uint64_t token);
    /// Whether `token` and `epoch` are this attachment's.
    [[nodiscard]] bool is_proved_by(std::uint64_t token, std::uint64_t epoch) const;
    /// It has a connection again, from the process of `pidfd` (may be empty). Requires a proof, and
    /// that it is connected or apart.
    void resume(UniqueFd pidfd, const ProcessId& process, std::function<void()> hang_up);
    /// Ends it while it may live; `force`: what its program has in hand is taken too, which may
    /// take a while.
    void end_by_operator(bool force, std::function<void(const Ended&)> done);
    /// Its process has ended, by the kernel's word.
    void process_ended();
    /// Looks at the process; true if it was found to be gone. Whether it still maps the pool is
    /// found out by the worker, and acted upon later.
    bool look();
    /// The pool is not served any more: forgets all, touches nothing.
    void abandon();

private:
    enum class Ending : std::uint8_t { kLeft, kDied, kUnmapped, kNotServed };
    using Clock = std::chrono::steady_clock;

    void await_end();
    void look_soon();
    friend class Supervisor;
    /// What the worker is given, and what it finds out.
    struct Look {
        UniqueFd pidfd;
        ProcessId process;
        MappedFile file;
        std::uint32_t confirmations = 0;  // of the client, when the look began
        Mapping found = Mapping::kUnknown;
    };
    void look_at_mapping();
    /// Where the client says that it mapped the pool; 0: nowhere yet.
    [[nodiscard]] std::uint64_t mapped_at() const noexcept;
    /// nullptr: there is nothing to be looked at any more.
    std::shared_ptr<Look> begin_look();
    void looked(const Look& look);
    void ended(const ServedPool::EndedClient& taken, bool first, bool force);
    void clear(Ending how);
    void cleared(const mempool::shm::Reclaimed& taken, Ending how, bool died);
    void hang_up();
    static const char* describe(Ending how);

    Supervisor& supervisor_;
    std::shared_ptr<ServedPool> pool_;
    mempool::shm::ClientId id_;
    Stage stage_;
    boost::asio::posix::stream_descriptor process_;  // pidfd; closed: there is none
    std::function<void()> hang_up_;
    std::uint32_t first_epoch_;        // of this attachment, before anybody ended it
    std::uint32_t busy_lanes_ = 0;     // of one that was ended: caches that are still to be taken
    std::uint32_t confirmations_ = 0;  // how often it showed that it lives and maps the pool
    bool taking_ = false;              // its slots, by force: its id must not go meanwhile
    std::optional<Ending> end_after_;  // what happened to it in the meantime
    bool seen_absent_ = false;         // at the last look: it takes two
    bool look_queued_ = false;
    Clock::time_point next_look_{};
    Clock::duration look_pause_{};
};

}  // namespace mempoold
