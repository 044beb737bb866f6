// Where the segments of one pool live: named objects in /dev/shm, or memfds without a name.
//
// Made by start_storage(), shared with the pool's Storage, which alone knows what is in a segment.
// Maps nothing. Errors are std::system_error.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/config/pool_config.hpp"
#include "daemon/storage/fd_store.hpp"
#include "daemon/storage/shm_object.hpp"

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

    /// Makes segment `number`, empty, readable and writable by its owner alone; EEXIST if there is
    /// one.
    virtual UniqueFd create(std::uint32_t number) = 0;
    /// Opens segment `number` once more, with an open file description of its own; empty if there
    /// is none.
    virtual UniqueFd open(std::uint32_t number, bool writable) = 0;
    /// Whether segment `number` still is the file behind `fd`.
    [[nodiscard]] virtual bool is(std::uint32_t number, int fd) const noexcept = 0;
    /// Empty if the file behind `fd` is protected as this backing promises; else what is wrong.
    [[nodiscard]] virtual std::string check(int fd) const = 0;
    /// Keeps other daemons from the pool whose first segment `fd` is. Throws EBUSY if one has it.
    virtual void lock(int fd) = 0;
    /// Segment `number` has its size and its contents: protects it, and sees to it that the next
    /// daemon finds it.
    virtual void keep(std::uint32_t number, int fd) = 0;

    virtual void remove(std::uint32_t number) noexcept = 0;
    /// Takes segment `number` (0: all of them) out of the way of a new one, without destroying what
    /// others use; says where it is now. `now` in seconds since the epoch.
    virtual std::string set_aside(std::uint32_t number, std::uint64_t now) = 0;
};

/// The backing that `config` wants. One of memfds begins with what `store` was given by a former
/// daemon and gives it what it makes; it must outlive the backing. Sets a named object aside that
/// stands under the name of a pool of memfds; throws EBUSY if another daemon serves that.
std::shared_ptr<Backing> make_backing(const PoolConfig& config, FdStore* store);

std::shared_ptr<Backing> make_named_backing(const PoolConfig& config);
std::shared_ptr<Backing> make_memfd_backing(const PoolConfig& config, FdStore* store);

}  // namespace mempoold
