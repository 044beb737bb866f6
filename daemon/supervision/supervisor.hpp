// Which clients live: a pidfd each, and from its end to the reclaim in one step.
//
// Used by sessions (who comes, whose connection ended) and Daemon (start, each second). Decides by
// the process, never by a heartbeat or by the connection alone: a connection also ends when a
// program is exec'd or closes descriptors it doesn't know.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "daemon/supervision/process.hpp"
#include "daemon/supervision/served_pool.hpp"

namespace mempoold {

/// One client of one pool, from attach to reclaim. Shared by the supervisor and its session.
struct Attachment {
    Attachment(boost::asio::io_context& io, std::shared_ptr<ServedPool> of_pool,
               mempool::shm::ClientId as_id)
        : pool(std::move(of_pool)), id(as_id), process(io) {}

    std::shared_ptr<ServedPool> pool;
    mempool::shm::ClientId id;
    boost::asio::posix::stream_descriptor process;  ///< pidfd; closed: there is none to be had
    bool connected = false;                         ///< a session serves it
    bool ended = false;                             ///< reclaimed: `id` may be somebody else's now
    std::function<void()> on_end;                   ///< closes the session
};

enum class Ending : std::uint8_t {
    kLeft,       ///< it said goodbye
    kDied,       ///< its process has ended
    kUnmapped,   ///< its process lives and no longer maps the pool: it exec'd
    kNotServed,  ///< the attach did not reach it
};

class Supervisor {
public:
    explicit Supervisor(boost::asio::io_context& io) : io_(io) {}
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;
    ~Supervisor() = default;

    /// Watches client `id` of `pool` from now on.
    std::shared_ptr<Attachment> watch(const std::shared_ptr<ServedPool>& pool,
                                      mempool::shm::ClientId id, UniqueFd pidfd);

    /// Readmits the clients of a former daemon that still live. The others are left to the sweep.
    void adopt(const std::shared_ptr<ServedPool>& pool);

    /// The attachment of that id, or nullptr.
    std::shared_ptr<Attachment> find(const ServedPool& pool, mempool::shm::ClientId id) const;

    /// Reclaims all that the client owned and forgets it. Nothing if that has happened already.
    void end(const std::shared_ptr<Attachment>& client, Ending how);

    /// The client's connection has ended without goodbye: finds out what that means.
    void connection_lost(const std::shared_ptr<Attachment>& client);

    /// Looks at each client of `pool` now; how many it found gone.
    std::uint32_t sweep(const ServedPool& pool);
    /// Each second: looks at clients that have no connection.
    void recheck();

    /// Forgets all clients of `pool` without touching it.
    void drop(const ServedPool& pool);

private:
    using Key = std::pair<const ServedPool*, std::uint32_t>;

    void await_end(const std::shared_ptr<Attachment>& client);
    /// Ends the client if its process is gone or doesn't map the pool any more.
    bool end_if_gone(const std::shared_ptr<Attachment>& client);

    boost::asio::io_context& io_;
    std::map<Key, std::shared_ptr<Attachment>> clients_;
    Key next_recheck_{nullptr, 0};
};

}  // namespace mempoold
