// Who is at the other end of a connection, as the kernel tells it.
//
// Read once when a connection is accepted; believes nothing that the peer says about itself.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "daemon/config/pool_config.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

/// In place of a number that stands for nobody in particular: no configuration can name it, and no
/// process has it.
constexpr uid_t kNoUser = static_cast<uid_t>(-1);
constexpr gid_t kNoGroup = static_cast<gid_t>(-1);

struct Peer {
    pid_t pid = 0;              ///< 0: in a pid namespace that the daemon does not see into
    uid_t uid = 0;              ///< kNoUser: one that the daemon's user namespace has no number for
    gid_t gid = 0;              ///< or kNoGroup
    std::vector<gid_t> groups;  ///< supplementary, those that have a number

    [[nodiscard]] bool is_in(gid_t group) const noexcept;
};

/// SO_PEERCRED and SO_PEERGROUPS of a connected socket. Throws std::system_error.
Peer read_peer(int socket);

/// The text of /proc/PID/uid_map or gid_map: whether the user namespace has a number for everybody.
/// Where it has not, all others appear under one number (/proc/sys/kernel/overflowuid,
/// overflowgid), which may be somebody's too.
bool maps_everybody(const std::string& id_map);

/// A pidfd of the process that connected; empty if it is gone already, or if descriptors ran out
/// (errno is EMFILE or ENFILE then). Where the kernel has no
/// SO_PEERPIDFD (before 6.5), a process that got the pid anew meanwhile is told by its start time:
/// it began after `accepted_ticks`, the moment of accept() as ticks_since_boot() counts.
mempool::shm::UniqueFd peer_pidfd(int socket, const Peer& peer, std::uint64_t accepted_ticks);

/// Root and the daemon's own user, who may do everything.
bool is_trusted(const Peer& peer) noexcept;

/// Root, the daemon's own user, and whom the pool's access names.
bool may_attach(const Peer& peer, const Access& access) noexcept;

/// Root, the daemon's own user, and members of the admin group.
bool is_admin(const Peer& peer, const std::optional<gid_t>& admin_group) noexcept;

}  // namespace mempoold
