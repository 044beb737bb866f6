// How a pool's shared memory comes to be served: found and taken over, set aside, or made anew.
//
// Used by Daemon at start, all at once, and at a reload, where the worker does what takes long.
// Deletes nothing that anybody could have used, and moves no pool of the former layout that is in
// use.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
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
    /// Is called until it tells who uses the pool: nullopt means again. None: nobody does. Throws
    /// if that cannot be told. On any thread, one call at a time.
    using Look = std::function<std::optional<std::vector<FormerClient>>()>;
    /// Begins to look at the pool of the former layout whose first segment `file` is.
    using FormerClients = std::function<Look(UniqueFd file)>;

    /// Looks for the pool that `config` describes, and changes nothing yet. `now` is in seconds
    /// since the epoch; `store` has what a former daemon left without a name, `runtime` the index
    /// of its names: both must outlive the storage.
    /// Throws std::system_error if the pool can't be served: served by another daemon, no
    /// descriptors. What was found is there for the next try.
    PoolStart(const PoolConfig& config, std::uint64_t now, FdStore* store,
              RuntimeDirectory* runtime, const FormerClients& former_clients = nullptr);
    PoolStart(const PoolStart&) = delete;
    PoolStart& operator=(const PoolStart&) = delete;
    ~PoolStart() = default;

    [[nodiscard]] const PoolConfig& config() const noexcept { return config_; }
    /// Does a piece of what takes long, on any thread: looks who uses a pool of the former layout,
    /// then as NewSegment::step(). True once there is no more until proceed().
    bool step() noexcept;
    /// Once step() has no more to do: takes the pool over or begins to make it, and logs that;
    /// whether there are steps again. Throws InUse, or std::system_error: no memory, an object in
    /// the way that the system won't let us rename. What was found is there for the next try,
    /// unless it was set aside before.
    bool proceed();
    /// Whether it is a new pool, which nobody has used.
    [[nodiscard]] bool is_new() const noexcept { return first_ != nullptr; }
    /// The storage, once proceed() said that there are no more steps. Throws as that does; nothing
    /// is left of a new pool then.
    std::unique_ptr<Storage> finish();

private:
    // What was found and cannot be served, or was made with another backing.
    struct InTheWay {
        std::shared_ptr<Backing> backing;
        std::string why;
        Look look;                          // as long as it is not known
        std::vector<FormerClient> clients;  // who uses it
        std::exception_ptr fault;           // why that can't be told
    };
    void find_other(FdStore* store, const FormerClients& look);
    void add(std::shared_ptr<Backing> backing, std::string why, const FormerClients& look);
    void set_aside(const InTheWay& found) const;
    [[nodiscard]] bool is_former(int file) const;
    void leave_if_in_use(const InTheWay& found) const;
    void note_layout() const noexcept;

    PoolConfig config_;
    std::uint64_t now_;
    RuntimeDirectory* runtime_;
    std::shared_ptr<Backing> backing_;
    std::vector<InTheWay> in_the_way_;
    bool found_ = true;  // nothing was begun yet
    std::unique_ptr<Storage> storage_;
    std::unique_ptr<NewSegment> first_;  // goes before its storage
};

}  // namespace mempoold
