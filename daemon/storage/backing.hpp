// Where the segments of one pool live: named objects in /dev/shm, or memfds without a name.
//
// Made by PoolStart, shared with the pool's Storage, which alone knows what is in a segment.
// Maps nothing. Errors are std::system_error. One that goes, whatever the reason, puts back into
// the descriptor store what it took from it and still has: the next one for that pool finds it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/config/pool_config.hpp"
#include "daemon/storage/fd_store.hpp"
#include "daemon/storage/runtime_directory.hpp"
#include "daemon/storage/shm_object.hpp"
#include "mempool/shm/words/pool_index.hpp"

namespace mempoold {

class Backing {
public:
    Backing() = default;
    Backing(const Backing&) = delete;
    Backing& operator=(const Backing&) = delete;
    virtual ~Backing() = default;

    /// What messages call segment `number`.
    [[nodiscard]] virtual std::string describe(std::uint32_t number) const = 0;
    /// Numbers of the segments there are, ascending.
    [[nodiscard]] virtual std::vector<std::uint32_t> list() const = 0;
    /// Memory that segments can be made of, and what is free of it.
    [[nodiscard]] virtual Space space() const noexcept = 0;
    /// Where a segment that is too large was to go, what space there is, and what to do.
    [[nodiscard]] virtual std::string explain_shortage() const = 0;

    /// Looks for what a former daemon left and takes it under lock; whether there is a first
    /// segment. What the descriptor store had for it and is none of its segments goes back there.
    /// Throws std::system_error: EBUSY if another daemon serves the pool.
    virtual bool find() = 0;
    /// Makes segment `number`, empty, readable and writable by its owner alone; EEXIST if there is
    /// one.
    virtual UniqueFd create(std::uint32_t number) = 0;
    /// Opens segment `number` once more, with an open file description of its own; empty if there
    /// is none.
    virtual UniqueFd open(std::uint32_t number, bool writable) = 0;
    /// Whether segment `number` still is the file behind `fd`.
    [[nodiscard]] virtual bool is(std::uint32_t number, int fd) const noexcept = 0;
    /// SegmentEntry::object of segment `number`.
    [[nodiscard]] virtual std::uint64_t random_part(std::uint32_t number) const = 0;
    /// What Header says of the runtime directory: device and inode; zeros if there is none.
    [[nodiscard]] virtual std::pair<std::uint64_t, std::uint64_t> runtime_identity() const = 0;
    /// Empty if the file behind `fd` is protected as this backing promises; else what is wrong.
    [[nodiscard]] virtual std::string check(int fd) const = 0;
    /// Segment `number` of the pool `uuid` has its size and its contents: protects it, and sees to
    /// it that the next daemon finds it.
    virtual void keep(std::uint32_t number, int fd, const mempool::shm::Uuid& uuid) = 0;
    /// Whether segment `number`, which find() found, was kept: somebody may use it.
    [[nodiscard]] virtual bool is_kept(std::uint32_t number) const = 0;
    /// Lets another backing take over what this one has; what has no name goes.
    virtual void give_up() noexcept = 0;

    virtual void remove(std::uint32_t number) noexcept = 0;
    /// Takes segment `number` (0: all of them) out of the way of a new one, for `reason`, without
    /// destroying what others use; says where it is now. `now` in seconds since the epoch.
    virtual std::string set_aside(std::uint32_t number, std::uint64_t now,
                                  const std::string& reason) = 0;
    /// Looks whether the segments still have their names, gives back those that were removed and
    /// logs it; what is missing still, empty if nothing is.
    virtual std::string mend_names() = 0;
};

/// The backing that `config` wants. It begins with what `store` was given by a former daemon, gives
/// it what has no name, and keeps the names in the index of `runtime`; both may be nullptr, else
/// they must outlive it.
std::shared_ptr<Backing> make_backing(const PoolConfig& config, FdStore* store,
                                      RuntimeDirectory* runtime = nullptr);

std::shared_ptr<Backing> make_named_backing(const PoolConfig& config, FdStore* store,
                                            RuntimeDirectory* runtime);
std::shared_ptr<Backing> make_memfd_backing(const PoolConfig& config, FdStore* store,
                                            RuntimeDirectory* runtime);

}  // namespace mempoold
