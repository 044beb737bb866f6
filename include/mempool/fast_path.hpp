// What get() and put() do in the caller's own code: a thread's lane from its cache, one operation
// on it. No lock, no system call, no call at all; everything else is behind the exported functions.
//
// Included by client.hpp and slot.hpp, not for users. As these functions are compiled into
// programs, what they reach into (ClientCore, CachedLane, Lane's private half) changes with the
// library's SOVERSION only.
//
// Fork: the hot page is wiped in a forked child (MADV_WIPEONFORK), so the serial reads 0 there, no
// lane matches it, and every operation ends in the slow path's check. Costs the parent nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include "mempool/export.hpp"
#include "mempool/shm/lane.hpp"
#include "mempool/shm/layout.hpp"

namespace mempool::detail {

/// Bits of what a Slot remembers for its return; 0 is the fast way.
constexpr std::uint32_t kErase = 1;   ///< the pool had erase_on_put when it was got
constexpr std::uint32_t kShared = 2;  ///< somebody else may know the handle
constexpr std::uint32_t kTagged = 4;  ///< it has a tag
static_assert(kErase == shm::kEraseOnPut, "a Slot takes over the pool's options as its flags");

/// A lane in the hands of one thread, or the home lane under its lock.
struct alignas(shm::kCacheLine) ThreadLane {
    explicit ThreadLane(const shm::Lane& opened) noexcept : lane(opened) {}

    shm::Lane lane;
    ThreadLane* next = nullptr;  // of the client's list; set once
    bool used = false;           // under the client's lock
};

/// A lane, and the client it belongs to. Clients are told apart by serial numbers that are never
/// used twice, so what is left of a client that is gone matches none.
struct CachedLane {
    std::uint64_t serial;
    ThreadLane* lane;
};

/// What no client has as its serial, nor reads as such in a forked child (0).
constexpr std::uint64_t kNoSerial = ~std::uint64_t{0};

// What this thread used last. initial-exec: no call to find it.
extern MEMPOOL_EXPORT constinit thread_local CachedLane last_lane
    __attribute__((tls_model("initial-exec")));

/// The lane this thread used last, if it is one with the client of that serial.
[[nodiscard]] inline ThreadLane* cached_lane(std::uint64_t serial) noexcept {
    if (last_lane.serial != serial) [[unlikely]] {
        return nullptr;
    }
    if (last_lane.lane == nullptr) {
        __builtin_unreachable();  // where there is a serial there is a lane: saves callers a check
    }
    return last_lane.lane;
}

/// What every get and put reads, in one page so that the kernel can wipe it at fork.
struct alignas(shm::kPage) HotPage {
    /// Throws Error if the kernel can't do that.
    HotPage();
    HotPage(const HotPage&) = delete;
    HotPage& operator=(const HotPage&) = delete;
    ~HotPage();

    std::atomic<std::uint64_t> serial{0};  ///< this client's; 0 before it is ready and in a child
    std::atomic<std::uint32_t> limit{0};   ///< one past the last index mapped; 0 once closed
    std::byte* slots = nullptr;            ///< slot 0
    std::uint64_t stride = 0;              ///< bytes from slot to slot
};

/// A slot that was got, by value: it stays in registers all the way into a Slot.
struct Got {
    shm::Held held;
    std::uint32_t flags = 0;
    bool ok = false;
};

/// The part of a client that programs are compiled against.
struct ClientCore {
    HotPage hot;
    std::size_t slot_size = 0;  ///< outside the page: it stays true in a forked child

    [[nodiscard]] std::byte* data_of(shm::SlotIndex i) const noexcept {
        return hot.slots + std::uint64_t{raw(i)} * hot.stride;
    }

    /// The common case of a get; not ok: nothing changed.
    [[nodiscard, gnu::always_inline]] Got try_get() const noexcept {
        ThreadLane* mine = cached_lane(hot.serial.load(std::memory_order_relaxed));
        Got got;
        if (mine != nullptr && mine->lane.try_get(hot.limit.load(std::memory_order_acquire),
                                                  got.held, got.flags)) [[likely]] {
            got.ok = true;
        }
        return got;
    }

    /// The common case of a put by the only one who can name the slot; false: nothing changed.
    [[nodiscard, gnu::always_inline]] bool try_put(shm::Held held,
                                                   std::uint32_t flags) const noexcept {
        if (flags != 0) [[unlikely]] {
            return false;
        }
        ThreadLane* mine = cached_lane(hot.serial.load(std::memory_order_relaxed));
        if (mine == nullptr || !mine->lane.try_put_private(held)) [[unlikely]] {
            return false;
        }
        if (mine->lane.is_waited_for()) [[unlikely]] {
            mine->lane.share();
        }
        return true;
    }
};

/// The rest of a get; `error` may be nullptr.
[[nodiscard]] MEMPOOL_EXPORT Got get_slowly(ClientCore* core, std::error_code* error) noexcept;
/// The rest of a put by Slot.
MEMPOOL_EXPORT std::error_code put_slowly(ClientCore* core, shm::Held held,
                                          std::uint32_t flags) noexcept;

/// What ~Slot does. By value, so that the Slot itself can stay in registers.
inline void drop(ClientCore* core, shm::Held held, std::uint32_t flags) noexcept {
    if (!core->try_put(held, flags)) [[unlikely]] {
        put_slowly(core, held, flags);
    }
}

}  // namespace mempool::detail
