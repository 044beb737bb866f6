// Descriptors that outlive the daemon: what systemd passes at start, and what it keeps for the
// next.
//
// Used by Daemon at start, and by pools of memfds. Where no service manager is, nothing is kept.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mempool/shm/unique_fd.hpp"

namespace mempoold {

/// The file descriptor store of the service (sd_notify(3), FDSTORE=1). A segment's name in it is
/// `mempool.NAME.K`; that of a client's pidfd is `c.KEY.ID`, by the pool's key in hexadecimal.
class FdStore {
public:
    using Descriptors = std::vector<std::pair<std::string, mempool::shm::UniqueFd>>;

    FdStore() = default;
    /// Of what was passed, takes the segments and the clients' pidfds and leaves the rest.
    explicit FdStore(Descriptors& passed);

    /// The segments of `pool` that a former daemon left, by number; they are then the caller's.
    std::map<std::uint32_t, mempool::shm::UniqueFd> take(std::string_view pool);
    /// Names of pools whose segments nobody has taken.
    [[nodiscard]] std::vector<std::string> left() const;
    /// Lets go of all segments of `pool` that nobody has taken.
    void drop(std::string_view pool);

    /// Gives segment `number` of `pool` to the service manager to keep, if there is one. Throws
    /// std::system_error if that can't be told. Whether it does keep it is not to be known: the
    /// unit's FileDescriptorStoreMax= decides.
    void keep(std::string_view pool, std::uint32_t number, int fd);
    void forget(std::string_view pool, std::uint32_t number) noexcept;

    /// The pidfd of client `id` of the pool with that key, if a former daemon left one.
    mempool::shm::UniqueFd take_client(std::uint64_t pool_key, std::uint32_t id);
    /// Lets go of all clients' pidfds that nobody has taken.
    void drop_clients() noexcept;
    /// Gives a client's pidfd to the service manager to keep, if there is one and it has room: some
    /// of the store is left to segments. A failure is logged once and costs no more than that the
    /// next daemon may not see this client.
    void keep_client(std::uint64_t pool_key, std::uint32_t id, int pidfd) noexcept;
    void forget_client(std::uint64_t pool_key, std::uint32_t id) noexcept;

private:
    using Client = std::pair<std::uint64_t, std::uint32_t>;  // pool key and id

    std::map<std::pair<std::string, std::uint32_t>, mempool::shm::UniqueFd> inherited_;  // by pool
    std::map<Client, mempool::shm::UniqueFd> inherited_clients_;
    std::set<Client> kept_clients_;
    bool complained_ = false;
};

/// All that systemd passed, by name (sd_listen_fds_with_names(3)); close-on-exec from now on.
FdStore::Descriptors take_passed_descriptors();

/// Whether a service manager listens to what the daemon says.
bool has_service_manager();

}  // namespace mempoold
