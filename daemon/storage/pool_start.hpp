// How a pool's shared memory comes to be served: found and taken over, set aside, or made anew.
//
// Used by Daemon at start, all at once, and at a reload, where the worker makes what takes long.
// Deletes nothing that anybody could have used, and moves no pool of the former layout that is in
// use.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include "daemon/config/pool_config.hpp"
#include "daemon/storage/new_segment.hpp"
#include "daemon/storage/storage.hpp"

namespace mempoold {

/// A pool of the former layout that is in use, or may be: what() says who uses it and what to do.
/// It is as it was.
class InUse : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A client of such a pool that lives, or may live.
struct FormerClient {
    pid_t pid = 0;      ///< as its record says
    bool seen = false;  ///< it does live; else nobody can tell from here
};

class PoolStart {
public:
    /// Who uses the pool of the former layout whose first segment `file` is. None: nobody. Throws
    /// if that cannot be told.
    using FormerClients = std::function<std::vector<FormerClient>(int file)>;

    /// Looks for the pool that `config` describes, takes it over or begins to make it, and logs
    /// that. `now` is in seconds since the epoch; `store` has what a former daemon left without a
    /// name, `runtime` the index of its names: both must outlive the storage.
    /// Throws InUse, or std::system_error if the pool can't be served: served by another daemon, no
    /// memory, an object in the way that the system won't let us rename. Whatever it throws, what
    /// was found is there for the next try, unless it was set aside before.
    PoolStart(const PoolConfig& config, std::uint64_t now, FdStore* store,
              RuntimeDirectory* runtime, const FormerClients& former_clients = nullptr);
    PoolStart(const PoolStart&) = delete;
    PoolStart& operator=(const PoolStart&) = delete;
    ~PoolStart() = default;

    [[nodiscard]] const PoolConfig& config() const noexcept { return config_; }
    /// Whether it is a new pool, which nobody has used.
    [[nodiscard]] bool is_new() const noexcept { return first_ != nullptr; }
    /// As NewSegment::step(); true at once for a pool that was there.
    bool step() noexcept { return !first_ || first_->step(); }
    /// The storage, once there are no more steps. Throws as the constructor; nothing is left of a
    /// new pool then.
    std::unique_ptr<Storage> finish();

private:
    PoolConfig config_;
    std::unique_ptr<Storage> storage_;
    std::unique_ptr<NewSegment> first_;  // goes before its storage
};

}  // namespace mempoold
