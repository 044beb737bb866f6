#include "daemon/control/peer.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

#include "daemon/base/fail.hpp"
#include "daemon/supervision/process.hpp"

namespace mempoold {

namespace {

// Newer than Debian 12's headers.
constexpr int kSoPeerPidfd = 77;

bool contains(const auto& list, auto value) {
    return std::find(list.begin(), list.end(), value) != list.end();
}

std::vector<gid_t> read_groups(int socket) {
    std::vector<gid_t> groups(32);
    for (;;) {
        auto bytes = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) == 0) {
            groups.resize(bytes / sizeof(gid_t));
            return groups;
        }
        if (errno != ERANGE) {
            return {};  // a kernel without it: the primary group alone counts
        }
        groups.resize(bytes / sizeof(gid_t));
    }
}

std::string read_text(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// The number under which those appear who have none here; nothing if everybody has one. Where /proc
// can't be read, nobody (65534) is believed to be nobody in particular.
std::optional<std::uint32_t> number_of_strangers(const char* id_map, const char* overflow) {
    if (maps_everybody(read_text(id_map))) {
        return std::nullopt;
    }
    std::uint32_t number = 0;
    std::istringstream text(read_text(overflow));
    return text >> number ? number : 65534;
}

}  // namespace

bool maps_everybody(const std::string& id_map) {
    constexpr std::uint32_t kEverybody = std::numeric_limits<std::uint32_t>::max();
    std::istringstream text(id_map);
    std::uint32_t first = 0;
    std::uint32_t outside = 0;
    std::uint32_t count = 0;
    return text >> first >> outside >> count && first == 0 && outside == 0 && count == kEverybody;
}

bool Peer::is_in(gid_t group) const noexcept { return gid == group || contains(groups, group); }

Peer read_peer(int socket) {
    ucred credentials{};
    socklen_t bytes = sizeof(credentials);
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
        fail(errno, "SO_PEERCRED");
    }
    // A process stays in its user namespace, whose maps are written once.
    static const auto kStrangeUid =
        number_of_strangers("/proc/self/uid_map", "/proc/sys/kernel/overflowuid");
    static const auto kStrangeGid =
        number_of_strangers("/proc/self/gid_map", "/proc/sys/kernel/overflowgid");
    Peer peer{credentials.pid, credentials.uid, credentials.gid, read_groups(socket)};
    if (kStrangeUid && peer.uid == *kStrangeUid) {
        peer.uid = kNoUser;
    }
    if (kStrangeGid) {
        std::erase(peer.groups, *kStrangeGid);
        if (peer.gid == *kStrangeGid) {
            peer.gid = kNoGroup;
        }
    }
    return peer;
}

mempool::shm::UniqueFd peer_pidfd(int socket, const Peer& peer, std::uint64_t accepted_ticks) {
    int given = -1;
    socklen_t bytes = sizeof(given);
    if (::getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &given, &bytes) == 0) {
        mempool::shm::UniqueFd pidfd{given};
        if (has_ended(pidfd.get())) {
            pidfd.reset();
        }
        return pidfd;
    }
    if (errno != ENOPROTOOPT || peer.pid <= 0) {
        return {};
    }
    mempool::shm::UniqueFd pidfd = open_pidfd(peer.pid);
    if (pidfd) {
        const auto started = start_time(peer.pid);
        if (has_ended(pidfd.get()) || (started && *started > accepted_ticks)) {
            pidfd.reset();
        }
    }
    return pidfd;
}

bool is_trusted(const Peer& peer) noexcept { return peer.uid == 0 || peer.uid == ::geteuid(); }

bool may_attach(const Peer& peer, const Access& access) noexcept {
    return access.everybody || is_trusted(peer) || contains(access.users, peer.uid) ||
           std::any_of(access.groups.begin(), access.groups.end(),
                       [&](gid_t group) { return peer.is_in(group); });
}

bool is_admin(const Peer& peer, const std::optional<gid_t>& admin_group) noexcept {
    return is_trusted(peer) || (admin_group && peer.is_in(*admin_group));
}

}  // namespace mempoold
