// The control socket spoken by hand, rightly and wrongly; and a client of a pool made of that and
// the shared-memory core alone.
//
// Used by tests of the daemon, which must not lean on libmempool.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/wire.hpp"
#include "mempool/shm/words/pool.hpp"
#include "mempool/shm/words/segment_map.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

using mempool::shm::RequestKind;

mempool::shm::Request make_request(RequestKind kind, const std::string& pool = "",
                                   std::uint64_t value = 0);

/// Waits until `holds` returns true, for as long as the test's patience lasts; whether it did.
bool eventually(const std::function<bool()>& holds);

/// One connection.
class RawClient {
public:
    /// Throws std::system_error if nobody listens there.
    explicit RawClient(const std::string& socket_path);

    /// 0 or errno.
    int send(const mempool::shm::Request& request, int passed_fd = -1);
    int send_bytes(std::string_view bytes);
    /// The next reply; nullopt if the daemon closes instead, or says nothing for a long time.
    std::optional<mempool::shm::Reply> receive(mempool::shm::UniqueFd* passed_fd = nullptr);
    /// send() and receive().
    std::optional<mempool::shm::Reply> ask(const mempool::shm::Request& request,
                                           mempool::shm::UniqueFd* passed_fd = nullptr);
    /// Asks, and receives what comes after the reply in `data`.
    std::optional<mempool::shm::Reply> read(const mempool::shm::Request& request,
                                            std::string& data);
    /// Waits for the daemon to close the connection.
    bool is_closed();
    int fd() const { return socket_.get(); }
    void close() { socket_.reset(); }

private:
    mempool::shm::UniqueFd socket_;
};

/// An attached client: it maps segment 0 and works with one lane.
class PoolClient {
public:
    /// Throws std::runtime_error with the daemon's text if it refuses.
    PoolClient(const std::string& socket_path, const std::string& pool);

    /// Gets up to `wanted` slots and returns how many it got.
    std::uint32_t get(std::uint32_t wanted);
    std::uint32_t id() const { return raw(id_); }
    /// What proves it.
    const mempool::shm::payload::Attachment& attachment() const { return attachment_; }
    const mempool::shm::Pool& view() const { return view_; }
    RawClient& connection() { return connection_; }
    mempool::shm::Census census() const { return mempool::shm::take_census(view_); }

private:
    RawClient connection_;
    mempool::shm::ClientId id_{};
    mempool::shm::payload::Attachment attachment_;
    std::optional<mempool::shm::SegmentMap> map_;
    mempool::shm::Pool view_;
    std::optional<mempool::shm::Lane> lane_;
};

/// The request by which `client` of `pool` gets another connection.
mempool::shm::Request make_resume(const std::string& pool, const PoolClient& client);

/// The goodbye of `client`.
mempool::shm::Request make_goodbye(const PoolClient& client);

/// A forked process that runs `work`, then waits to be killed. It is killed and reaped when the
/// object goes.
class ChildProcess {
public:
    /// Returns when `work` has returned in the child; throws std::runtime_error if it threw there.
    explicit ChildProcess(const std::function<void()>& work);
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess();

    pid_t pid() const { return pid_; }
    /// SIGKILL, and reaps it.
    void kill9();
    void stop() const;
    void cont() const;

private:
    pid_t pid_ = -1;
};

}  // namespace mempoold
