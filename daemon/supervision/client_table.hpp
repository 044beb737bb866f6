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

#include "daemon/supervision/process.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempoold {

/// A client as the kernel described its process when it attached, and what proves the attachment.
struct ClientIdentity {
    ProcessId process;
    uid_t uid = 0;
    gid_t gid = 0;
    std::string command;
    std::uint64_t token_hash = 0;  ///< 0: it has none, and can prove nothing
};

/// What a record of a former daemon says about its client.
enum class Recorded : std::uint8_t {
    kActive,
    kEnded,  ///< an operator ended it; its process may live
    kLeft,   ///< it said goodbye, and proved that it was it
    kDead,   ///< its reclaim had begun
};

class ClientTable {
public:
    explicit ClientTable(const mempool::shm::Pool& view);

    /// Gives out the id that has been free for longest, and publishes its record: fields first,
    /// state ACTIVE last. nullopt if all are in use.
    std::optional<mempool::shm::ClientId> add(const ClientIdentity& client, std::uint64_t now);

    /// How many clients of user `uid` are attached.
    [[nodiscard]] std::uint32_t count_of(uid_t uid) const noexcept;

    /// What the record of `id` says, if it says that somebody has it. Foreign bytes: a state that
    /// makes no sense counts as kActive, since in doubt a client lives.
    struct Found {
        Recorded state = Recorded::kActive;
        ClientIdentity client;
    };
    [[nodiscard]] std::optional<Found> recorded(mempool::shm::ClientId id) const;
    /// Believes recorded(id) from now on.
    void readmit(mempool::shm::ClientId id, const Found& found);

    /// The number that the attachment `id` is known by; see ClientRecord::epoch.
    [[nodiscard]] std::uint32_t epoch(mempool::shm::ClientId id) const noexcept {
        return entries_[raw(id)].epoch;
    }

    /// Whether the process of `id` can be seen is shown to others, and nothing else.
    void show_as_unseen(mempool::shm::ClientId id, bool unseen);
    /// Its process is another's number now, or seen for the first time.
    void set_process(mempool::shm::ClientId id, const ProcessId& process);

    /// An operator ended `id`: raises its epoch and marks the record ENDED. The id stays taken.
    void mark_ended(mempool::shm::ClientId id);
    /// Raises the epoch and marks the record DEAD: its reclaim begins.
    void mark_dead(mempool::shm::ClientId id);
    /// Ends the attachment; the id may be given out again (I5: all it owned was taken back).
    void remove(mempool::shm::ClientId id);

    /// Writes the records again that differ from what this table says; returns how many.
    std::uint64_t restore() noexcept;

    /// How many clients are attached.
    [[nodiscard]] std::uint32_t count() const noexcept;

    /// Whether the client itself has written that it is done, and proved that it was it.
    [[nodiscard]] bool says_leaving(mempool::shm::ClientId id) const;
    [[nodiscard]] bool is_attached(mempool::shm::ClientId id) const noexcept {
        return raw(id) < entries_.size() && entries_[raw(id)].attached;
    }
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
        mempool::shm::ClientState shown = mempool::shm::ClientState::kFree;
        std::uint32_t epoch = 0;
        std::uint64_t freed = 0;        // grows with each removal: smallest is free for longest
        std::uint32_t attached_at = 0;  // seconds of the pool's clock
        ClientIdentity identity;
    };
    static void describe(const Entry& entry, mempool::shm::ClientRecord& record) noexcept;
    void show(mempool::shm::ClientId id, mempool::shm::ClientState state);
    void raise_epoch(mempool::shm::ClientId id);
    [[nodiscard]] bool proves_leaving(mempool::shm::ClientId id, std::uint64_t token_hash) const;

    mempool::shm::Pool view_;
    std::vector<Entry> entries_;
    std::uint64_t removals_ = 0;
};

}  // namespace mempoold
