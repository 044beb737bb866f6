// Who is attached to a pool: the daemon's own record of it, and what others are shown of it.
//
// Used by ServedPool and the supervisor. The private half decides; the ClientRecords in shared
// memory are its public copy, and input only for a daemon that has just started.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mempool/shm/pool.hpp"

namespace mempoold {

/// A process as the kernel described it when it attached.
struct ClientIdentity {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    std::uint64_t start_time = 0;  ///< clock ticks after boot; 0 unknown
    std::string command;
};

class ClientTable {
public:
    explicit ClientTable(const mempool::shm::Pool& view);

    /// Gives out the id that has been free for longest, and publishes its record: fields first,
    /// state ACTIVE last. nullopt if all are in use.
    std::optional<mempool::shm::ClientId> add(const ClientIdentity& client, std::uint64_t now);

    /// How many clients of user `uid` are attached.
    [[nodiscard]] std::uint32_t count_of(uid_t uid) const noexcept;

    /// What the record of `id` says, if it says that a client is attached. Foreign bytes.
    [[nodiscard]] std::optional<ClientIdentity> recorded(mempool::shm::ClientId id) const;
    /// Believes recorded(id) from now on.
    void readmit(mempool::shm::ClientId id, const ClientIdentity& client);

    /// Marks the record DEAD: its reclaim begins.
    void mark_dead(mempool::shm::ClientId id);
    /// Ends the attachment; the id may be given out again (I5: all it owned was taken back).
    void remove(mempool::shm::ClientId id);

    /// Writes the records anew that differ from what this table says; how many.
    std::uint64_t restore() noexcept;

    /// How many clients are attached.
    [[nodiscard]] std::uint32_t count() const noexcept;

    /// Whether the client itself has written that it is done.
    [[nodiscard]] bool says_leaving(mempool::shm::ClientId id) const;
    [[nodiscard]] bool is_attached(mempool::shm::ClientId id) const noexcept;
    [[nodiscard]] const ClientIdentity& identity(mempool::shm::ClientId id) const {
        return entries_[raw(id)].identity;
    }
    /// One past the largest id.
    [[nodiscard]] std::uint32_t size() const noexcept {
        return static_cast<std::uint32_t>(entries_.size());
    }

private:
    struct Entry {
        bool attached = false;
        std::uint64_t freed = 0;        // grows with each removal: smallest is free for longest
        std::uint64_t attached_at = 0;  // seconds of the pool's clock
        ClientIdentity identity;
    };
    static void describe(const Entry& entry, mempool::shm::ClientRecord& record) noexcept;

    mempool::shm::Pool view_;
    std::vector<Entry> entries_;
    std::uint64_t removals_ = 0;
};

}  // namespace mempoold
