// Looking at pools without taking part in them, and asking the daemon for an operator's actions.
//
// Used by mempoolctl; by any monitoring program. Works on a copy of a pool's records: the daemon
// passes it, in a second or not at all; where none answers, root and the daemon's own user read the
// pool's object themselves, as the index of the runtime directory names it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/client.hpp"
#include "mempool/error.hpp"
#include "mempool/export.hpp"

namespace mempool {

/// A pool's figures at one moment. free + cached + held + detached == slots.
struct MEMPOOL_STRING_ABI PoolStatus {
    std::string pool;
    std::string uuid;  ///< RFC 4122 text form
    std::uint64_t slot_size = 0;
    std::uint64_t slot_stride = 0;  ///< bytes from slot to slot
    std::uint64_t slots = 0;
    std::uint64_t max_slots = 0;
    std::uint64_t free = 0;      ///< in the depot, for anybody
    std::uint64_t cached = 0;    ///< in a thread's lane, free for that thread first
    std::uint64_t held = 0;      ///< by clients, shown or not
    std::uint64_t detached = 0;  ///< between clients
    std::uint64_t unknown = 0;   ///< damaged; 0 in a sound pool
    std::uint64_t segments = 0;
    std::uint64_t clients = 0;
    std::uint64_t max_clients = 0;
    std::uint64_t lanes = 0;      ///< in use
    std::uint64_t gets = 0;       ///< since creation
    std::uint64_t puts = 0;       ///< since creation, without the reclaimed
    std::uint64_t exhausted = 0;  ///< gets that found nothing
    std::uint64_t refused = 0;    ///< puts, adopts and detaches with a wrong handle
    std::uint64_t reclaimed = 0;  ///< slots taken back from dead clients
    std::uint64_t deaths = 0;     ///< clients reclaimed
    std::uint64_t grown = 0;      ///< segments added since creation
    std::uint64_t grow_failures = 0;
    std::uint64_t steals = 0;   ///< magazines that lanes took from idle lanes
    std::uint64_t waiters = 0;  ///< threads asleep in get_for
    std::uint64_t shards = 0;   ///< of the depot
    std::uint64_t magazine_capacity = 0;
    std::uint64_t metadata_bytes = 0;
    bool erase_on_put = false;
    std::uint64_t quota = 0;          ///< slots one client may hold; 0: no quota
    std::uint64_t created_at = 0;     ///< seconds since the epoch
    std::uint32_t daemon_pid = 0;     ///< 0 after a clean stop
    std::uint32_t daemon_starts = 0;  ///< how many daemons served it so far
    std::string missing_names;        ///< which names its objects have lost; empty: none
};

struct MEMPOOL_STRING_ABI ClientInfo {
    std::uint32_t id = 0;
    std::uint32_t pid = 0;
    std::uint32_t uid = 0;
    std::string command;
    /// "active"; "unseen": the daemon cannot see its process, which counts as alive; "ended" by an
    /// operator, its process may live; "leaving"; "dead".
    std::string state;
    std::uint32_t epoch = 0;  ///< tells it from others under the same id
    std::uint64_t attached_at = 0;
    std::uint64_t held = 0;    ///< slots
    std::uint64_t cached = 0;  ///< slots in its lanes
    std::uint64_t quota = 0;   ///< slots it may hold; 0: no quota
    std::uint32_t lanes = 0;
};

struct MEMPOOL_STRING_ABI SegmentInfo {
    std::uint32_t number = 0;
    std::string object;  ///< name in /dev/shm
    std::uint32_t first_index = 0;
    std::uint32_t slots = 0;
    std::uint64_t file_bytes = 0;
    std::uint64_t added_at = 0;
};

struct MEMPOOL_STRING_ABI SlotInfo {
    std::uint32_t index = 0;
    /// "free", "cached", "held", "shown" (held, and its handle was given out), "detached" or
    /// "unknown".
    std::string state;
    std::uint32_t holder = 0;  ///< client id, where held or shown; else who detached it, 0: unknown
    std::uint32_t pid = 0;     ///< that client's; 0 if it has detached the slot and is gone
    std::uint32_t generation = 0;
    std::uint64_t since = 0;  ///< seconds since the epoch of the last get, adopt or detach; 0 never
    std::uint32_t tag = 0;
    std::uint64_t offset = 0;
    std::uint64_t handle = 0;  ///< where shown or detached, else 0: no other is accepted
};

struct MEMPOOL_STRING_ABI AuditFinding {
    std::string fault;        ///< short name, e.g. "slot-unlisted"
    std::string text;         ///< a sentence
    std::uint64_t where = 0;  ///< slot index or magazine id
};

struct MEMPOOL_STRING_ABI AuditReport {
    std::uint64_t slots = 0;             ///< compared
    std::uint64_t magazines = 0;         ///< compared
    std::vector<AuditFinding> findings;  ///< empty: the pool is clean
};

/// Who is asked about pools.
enum class LookAt : std::uint8_t {
    kDaemon,  ///< the daemon, for a second at most in which it says nothing; then as kMemory
    kMemory,  ///< nobody: the index of the runtime directory names the objects
};

/// A read-only look at one pool. Not thread-safe; every call looks again.
class MEMPOOL_EXPORT Inspector {
public:
    /// Finds the pool that the daemon at the socket serves; where no daemon answers, the one that a
    /// trusted index names. Throws Error.
    [[nodiscard]] static Inspector open(std::string_view pool, const AttachOptions& options = {},
                                        LookAt at = LookAt::kDaemon);
    Inspector(Inspector&&) noexcept;
    Inspector& operator=(Inspector&&) noexcept;
    Inspector(const Inspector&) = delete;
    Inspector& operator=(const Inspector&) = delete;
    ~Inspector();

    /// Whether the daemon answers for the pool.
    [[nodiscard]] bool served() const noexcept;
    /// If it doesn't: why, and what was trusted instead.
    [[nodiscard]] std::string note() const;

    [[nodiscard]] PoolStatus status() const;
    [[nodiscard]] std::vector<ClientInfo> clients() const;
    [[nodiscard]] std::vector<SegmentInfo> segments() const;
    /// Calls `visit` for every slot in order of index until it returns false.
    void visit_slots(const std::function<bool(const SlotInfo&)>& visit) const;
    [[nodiscard]] AuditReport audit() const;

private:
    struct Impl;
    explicit Inspector(std::unique_ptr<Impl> impl) noexcept;
    std::unique_ptr<Impl> impl_;
};

/// Names of pools found: those the daemon serves, and those that the index of its runtime directory
/// knows.
struct MEMPOOL_STRING_ABI FoundPool {
    std::string name;
    bool served = false;   ///< the daemon at the socket serves it
    bool present = false;  ///< its object stands in /dev/shm (may be unreadable to the caller)
};
[[nodiscard]] MEMPOOL_EXPORT std::vector<FoundPool> find_pools(const AttachOptions& options = {},
                                                               LookAt at = LookAt::kDaemon);

/// An object that stood for a pool, could not be served, and is still there under another name. Its
/// clients may use it; the daemon does not.
struct MEMPOOL_STRING_ABI SetAside {
    std::string object;  ///< its name as shm_open(3) takes it
    std::string reason;  ///< why it could not be served
};
/// Those that the index of the runtime directory knows, the oldest first.
[[nodiscard]] MEMPOOL_EXPORT std::vector<SetAside> find_set_aside(
    const AttachOptions& options = {});

/// What a reclaim took back.
struct ReclaimReport {
    std::uint64_t clients = 0;
    std::uint64_t slots = 0;     ///< from dead clients
    std::uint64_t detached = 0;  ///< detached slots freed
};

/// What ending a client came to.
struct EndReport {
    std::uint64_t slots = 0;      ///< that it held, taken back
    std::uint64_t magazines = 0;  ///< of its caches, taken back
    std::uint64_t left = 0;       ///< slots that it still holds, until its process has ended
    bool alive = false;           ///< its process may live still
};

/// What a repair mended.
struct MEMPOOL_STRING_ABI RepairReport {
    struct MEMPOOL_STRING_ABI Mended {
        std::string fault;  ///< short name, as in AuditFinding, or "header", "segment-table", …
        std::uint64_t count = 0;
    };
    std::vector<Mended> mended;  ///< each fault of which there were any
    std::uint64_t clients = 0;   ///< attached: what may be theirs was left as it was
};

/// A connection to the daemon for actions that change a pool. Needs root, the daemon's uid, or
/// membership in its admin_group. Not thread-safe. Members throw Error.
class MEMPOOL_EXPORT Admin {
public:
    [[nodiscard]] static Admin connect(const AttachOptions& options = {});
    Admin(Admin&&) noexcept;
    Admin& operator=(Admin&&) noexcept;
    Admin(const Admin&) = delete;
    Admin& operator=(const Admin&) = delete;
    ~Admin();

    /// Adds a segment of about `slots` slots (at most up to max_slots); how many were added.
    /// Waits for as long as the daemon works on it, once the daemon has answered in time.
    std::uint64_t grow(std::string_view pool, std::uint64_t slots);
    /// Sweeps dead clients now; with an age, also frees slots detached for longer than that.
    /// Waits as grow().
    ReclaimReport reclaim(std::string_view pool,
                          std::optional<std::chrono::seconds> detached_age = std::nullopt);
    /// Ends client `id` of `pool`, that of `epoch` (see ClientInfo), while its process may live:
    /// all its calls are refused with Errc::kEnded from now on, and its idle caches go to others.
    /// `force`: so does what its program has in hand, though it may still write there: then two may
    /// write into one slot. ESRCH: there is no such client any more. EOPNOTSUPP: it may be of a
    /// release that does not heed this.
    EndReport end_client(std::string_view pool, std::uint32_t id, std::uint32_t epoch, bool force);
    /// Kills the process of that client, with the caller's own rights, and waits until it has
    /// ended, 10 s at most (ETIMEDOUT). EPERM: the caller may not kill it. ESRCH: there is no such
    /// client, or the daemon cannot see its process.
    void kill_client(std::string_view pool, std::uint32_t id, std::uint32_t epoch);
    /// Mends what an audit finds, while clients work and without touching what may be theirs. What
    /// an audit finds afterwards can't be mended while they are attached, or at all. EOPNOTSUPP if
    /// the daemon is of a release that can't.
    RepairReport repair(std::string_view pool);
    /// "mempoold VERSION, pid N" of the daemon that answers.
    [[nodiscard]] std::string daemon_version();

private:
    struct Impl;
    explicit Admin(std::unique_ptr<Impl> impl) noexcept;
    std::unique_ptr<Impl> impl_;
};

}  // namespace mempool
