// What a pool shall be like: its keys, their defaults and bounds.
//
// Filled from `--pool`, `pool =` and files in pools.d; read by whatever makes or serves a pool.
// Pure but for looking up users and groups, and the number of processors.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/units.hpp"
#include "mempool/shm/words/layout.hpp"

namespace mempoold {

/// Who may attach, beside root and the daemon's own user.
struct Access {
    bool everybody = false;
    std::vector<uid_t> users;
    std::vector<gid_t> groups;

    friend bool operator==(const Access&, const Access&) = default;
};

struct PoolConfig {
    enum class Backing : std::uint8_t {
        kShm,    ///< objects in /dev/shm, found by name
        kMemfd,  ///< memfds without a name, whose size is sealed
    };

    std::string name;
    std::string source;  ///< where it was configured, for messages

    // What the pool's shared memory is made from: no effect on a pool that exists.
    std::uint64_t slot_size = 0;
    std::uint32_t slots = 0;
    std::uint32_t max_slots = 0;  ///< at least `slots`
    std::uint64_t cache_bytes = std::uint64_t{256} << 10U;
    std::uint32_t max_clients = 256;
    std::uint32_t shards = 0;  ///< of the depot, a power of two; 0: as the machine has processors
    Backing backing = Backing::kShm;
    std::optional<uid_t> owner;
    std::optional<gid_t> group;
    std::uint32_t mode = 0600;

    // What a reload may change.
    Watermark low_watermark;
    std::optional<double> grow_factor;  ///< this or grow_slots; neither: doubles
    std::optional<std::uint32_t> grow_slots;
    bool erase_on_put = false;
    std::uint32_t max_clients_per_user = 0;  ///< 0: no limit but max_clients
    std::uint32_t quota = 0;                 ///< slots one client may hold; 0: no quota
    std::uint32_t detached_ttl_s = 0;        ///< 0: a detached slot waits for ever
    Access access;
    std::string allow_users;  ///< as written, to be shown
    std::string allow_groups;

    /// What the layout is computed from.
    [[nodiscard]] mempool::shm::Shape shape() const noexcept;
};

/// Collects the keys of one pool, in any order, and checks what they say together.
class PoolConfigBuilder {
public:
    /// Throws ConfigError if `name` may not name a pool.
    PoolConfigBuilder(std::string_view name, std::string source);

    /// Throws ConfigError for an unknown key, a repeated one, or a bad value.
    void set(std::string_view key, std::string_view value);

    /// Throws ConfigError if a key is missing or two contradict each other.
    [[nodiscard]] PoolConfig finish();

private:
    PoolConfig config_;
    std::vector<std::string> seen_;
};

/// A pool in one line: NAME:SLOT_SIZExSLOTS[,key=value…]. Lists in it are separated by '+' or ':'.
PoolConfig parse_pool(std::string_view text, std::string source);

/// The same line, with every key that has a value.
std::string format_pool(const PoolConfig& config);

}  // namespace mempoold
