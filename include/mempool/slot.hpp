// One slot of a pool in the hands of this process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

#include "mempool/export.hpp"
#include "mempool/fast_path.hpp"
#include "mempool/handle.hpp"

namespace mempool {

class Client;
namespace detail {
class ClientImpl;
}

/// Owns a slot and returns it to its pool when it goes. Move-only; empty after a failed get.
///
/// The bytes are shared memory: whoever was given the handle may look at them too. A new slot's
/// bytes are what its last user left, or zeros if the pool has `erase_on_put`. One Slot is not
/// thread-safe; different ones are. A Slot must go before its Client does. In a forked child it
/// is inert: it returns nothing, the parent still holds it.
class Slot {
public:
    Slot() = default;
    Slot(Slot&& other) noexcept
        : owner_(std::exchange(other.owner_, detail::Owner())), name_(other.name_) {}
    Slot& operator=(Slot&& other) noexcept {
        if (this != &other) {
            reset();
            owner_ = std::exchange(other.owner_, detail::Owner());
            name_ = other.name_;
        }
        return *this;
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    // Inlined where an exception passes by too: one call of it there, and the Slot's address has
    // escaped, so that it lives in memory and not in registers on the fast way.
    [[gnu::always_inline]] ~Slot() {
        if (owner_) {
            detail::drop(owner_, name_);
        }
    }

    /// Whether it holds a slot.
    explicit operator bool() const noexcept { return static_cast<bool>(owner_); }
    /// First byte, aligned to at least 64 bytes; nullptr if empty.
    [[nodiscard]] std::byte* data() const noexcept {
        return owner_ ? owner_.core()->data_of(name_) : nullptr;
    }
    /// Bytes usable, the pool's slot_size; 0 if empty.
    [[nodiscard]] std::size_t size() const noexcept {
        return owner_ ? owner_.core()->slot_size : 0;
    }
    [[nodiscard]] std::span<std::byte> span() const noexcept { return {data(), size()}; }
    /// Distance of data() from the start of the pool's range, the same in every process. Bytes.
    [[nodiscard]] MEMPOOL_EXPORT std::uint64_t offset() const noexcept;
    /// Names the slot to other processes, while this one keeps holding it, until one of them adopts
    /// it or puts it: then this Slot's return is refused, and harmless. Until it is asked for, the
    /// pool accepts no handle of the slot, not even the right one, and its return is faster. Empty
    /// if by then the slot is not this client's any more (the client was ended, or this is a forked
    /// child), or the pool is too damaged to work with; once given, it stays the same.
    [[nodiscard]] Handle handle() const noexcept {
        if (!owner_) {
            return {};
        }
        if ((owner_.flags() & detail::kShown) == 0) {
            if (!detail::show(owner_, name_)) [[unlikely]] {
                return {};
            }
            owner_.add(detail::kShown);
        }
        return name_;
    }

    /// Leaves the slot to whoever adopts the handle: it outlives this process, and this object is
    /// empty afterwards. An empty Handle if the slot was taken away meanwhile, or if the pool is
    /// too damaged to work with: then this object keeps the slot.
    [[nodiscard]] MEMPOOL_EXPORT Handle detach() noexcept;
    /// Forgets the slot without returning it: for one whose receiver adopts or puts the handle.
    /// Until then it counts as this client's, and is reclaimed if this process dies. Where handle()
    /// is empty, nothing is forgotten: this Slot's return is refused, or goes well.
    Handle release() noexcept {
        const Handle handle = this->handle();
        if (handle) {
            owner_ = detail::Owner();
        }
        return handle;
    }
    /// Returns the slot to the pool now.
    void reset() noexcept {
        if (owner_) {
            detail::drop(std::exchange(owner_, detail::Owner()), name_);
        }
    }

    /// A number of the user's, shown by `mempoolctl slots`; says what the slot is for.
    MEMPOOL_EXPORT void set_tag(std::uint32_t tag) noexcept;

private:
    friend class Client;
    friend class detail::ClientImpl;
    explicit Slot(const detail::Got& got) noexcept : owner_(got.owner), name_(got.name) {}

    // As the constructor, for a Slot that is empty.
    void fill(detail::Owner owner, Handle name) noexcept {
        owner_ = owner;
        name_ = name;
    }

    // Two words, from which the address follows: the smaller, the more Slots fit into a cache.
    mutable detail::Owner owner_;  // none: the Slot is empty
    Handle name_;
};

static_assert(sizeof(Slot) == 16);

}  // namespace mempool
