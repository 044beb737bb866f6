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
#include <tuple>
#include <utility>
#include <vector>

#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

/// Which attachment a pidfd is of.
struct ClientName {
    std::uint64_t pool_key = 0;
    std::uint32_t id = 0;
    std::uint32_t epoch = 0;

    friend bool operator<(const ClientName& a, const ClientName& b) noexcept {
        return std::tie(a.pool_key, a.id, a.epoch) < std::tie(b.pool_key, b.id, b.epoch);
    }
};

/// The file descriptor store of the service (sd_notify(3), FDSTORE=1). A segment's name in it is
/// `mempool.NAME.K`; that of a client's pidfd is `c.KEY.ID.EPOCH`, the pool's key in hexadecimal.
class FdStore {
public:
    using Descriptors = std::vector<std::pair<std::string, mempool::shm::UniqueFd>>;

    FdStore() = default;
    /// Of what was passed, takes the segments and the clients' pidfds and leaves the rest.
    explicit FdStore(Descriptors& passed);

    /// The segments of `pool` that a former daemon left, by number; they are then the caller's.
    std::map<std::uint32_t, mempool::shm::UniqueFd> take(std::string_view pool);
    /// Somebody who took it lets it wait for a later take(); what is kept does not change.
    void put_back(std::string_view pool, std::uint32_t number, mempool::shm::UniqueFd fd) noexcept;
    /// Names of pools whose segments nobody has taken.
    [[nodiscard]] std::vector<std::string> left() const;
    /// Lets go of all segments of `pool` that nobody has taken.
    void drop(std::string_view pool);

    /// Gives segment `number` of `pool` to the service manager to keep, if there is one. Throws
    /// std::system_error if that can't be told, or the names of all that is kept would be too long.
    /// Whether it does keep it cannot be known: the unit's FileDescriptorStoreMax= decides.
    void keep(std::string_view pool, std::uint32_t number, int fd);
    void forget(std::string_view pool, std::uint32_t number) noexcept;

    /// The pidfd of that client, if a former daemon left one.
    mempool::shm::UniqueFd take_client(const ClientName& client);
    /// Copies of those of all clients of a pool, as far as there are descriptors for them.
    [[nodiscard]] std::map<ClientName, mempool::shm::UniqueFd> copy_clients(
        std::uint64_t pool_key) const;
    /// Lets go of all clients' pidfds that nobody has taken.
    void drop_clients() noexcept;
    /// Gives a client's pidfd to the service manager to keep, if there is one and it has room: some
    /// of the store is left to segments. A failure is logged once and costs no more than that the
    /// next daemon may not see this client.
    void keep_client(const ClientName& client, int pidfd) noexcept;
    void forget_client(const ClientName& client) noexcept;

private:
    /// Stores `fd` under `name`, unless that is stored already: 0 or errno; ENOSPC if all names
    /// would then take more than `most_bytes`.
    int store(const std::string& name, int fd, std::size_t most_bytes);
    /// Lets go of what is stored under `name`; false if nothing was.
    bool discard(const std::string& name) noexcept;

    std::map<std::pair<std::string, std::uint32_t>, mempool::shm::UniqueFd> inherited_;  // by pool
    std::map<ClientName, mempool::shm::UniqueFd> inherited_clients_;
    std::set<std::string> kept_;  // names of all that is stored
    std::size_t name_bytes_ = 0;  // of these, each with a separator
    std::size_t clients_kept_ = 0;
    bool complained_ = false;
};

/// All that systemd passed, by name (sd_listen_fds_with_names(3)); close-on-exec from now on.
FdStore::Descriptors take_passed_descriptors();

/// Whether a service manager listens to what the daemon says.
bool has_service_manager();

}  // namespace mempoold
