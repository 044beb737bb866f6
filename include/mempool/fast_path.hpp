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
#include "mempool/handle.hpp"
#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/words/layout.hpp"

namespace mempool::detail {

/// Bits of what a Slot remembers for its return; 0 is the fast way.
constexpr std::uint32_t kErase = 1;   ///< the pool had erase_on_put when it was got
constexpr std::uint32_t kShown = 2;   ///< its handle was given out: its word is SHOWN
constexpr std::uint32_t kTagged = 4;  ///< it may have a tag
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
};

struct ClientCore;

/// The client that a Slot is of, and its flags (kErase...) in the low bits of the address: a core
/// begins on a page.
class Owner {
public:
    constexpr Owner() = default;
    /// `options`: Live::options, of which other bits than kErase are somebody else's bytes.
    explicit Owner(ClientCore* core, std::uint32_t options = 0) noexcept
        : bits_(reinterpret_cast<std::uintptr_t>(core) | (options & kErase)) {}

    [[nodiscard]] ClientCore* core() const noexcept { return at(bits_ & ~kFlags); }
    [[nodiscard]] std::uint32_t flags() const noexcept {
        return static_cast<std::uint32_t>(bits_ & kFlags);
    }
    /// Whether there is one.
    explicit operator bool() const noexcept { return bits_ != 0; }
    [[nodiscard]] bool is_plain() const noexcept { return (bits_ & kFlags) == 0; }
    /// core() of one that is_plain().
    [[nodiscard]] ClientCore* plain_core() const noexcept { return at(bits_); }
    void add(std::uint32_t flag) noexcept { bits_ |= flag; }
    friend constexpr bool operator==(Owner, Owner) = default;

private:
    static constexpr std::uintptr_t kFlags = kErase | kShown | kTagged;
    static ClientCore* at(std::uintptr_t address) noexcept {
        return reinterpret_cast<ClientCore*>(address);  // NOLINT(performance-no-int-to-ptr)
    }

    std::uintptr_t bits_ = 0;
};

/// A slot that was got, or none (no owner): all that a Slot is, in two registers.
struct Got {
    Owner owner;
    Handle name;
};

/// The part of a client that programs are compiled against.
struct ClientCore {
    HotPage hot;
    // Outside the page: they stay true in a forked child.
    std::uintptr_t before_slots = 0;  ///< address of slot 0, less a stride
    std::size_t stride = 0;           ///< bytes from slot to slot
    std::size_t slot_size = 0;        ///< bytes of each that are the user's

    /// First byte of the slot that `name`, which is not empty, names.
    [[nodiscard]] std::byte* data_of(Handle name) const noexcept {
        const std::uint64_t ordinal = static_cast<std::uint32_t>(name.value());  // index + 1
        const std::uintptr_t address = before_slots + ordinal * stride;
        auto* const data =
            reinterpret_cast<std::byte*>(address);  // NOLINT(performance-no-int-to-ptr)
        if (data == nullptr) {
            __builtin_unreachable();  // spares callers a check
        }
        return data;
    }

    /// The common case of a get; false: nothing changed.
    [[nodiscard, gnu::always_inline]] bool try_get(Got& got) noexcept {
        ThreadLane* mine = cached_lane(hot.serial.load(std::memory_order_relaxed));
        shm::Held held;
        std::uint32_t options = 0;
        if (mine == nullptr || !mine->lane.try_get(hot.limit.load(std::memory_order_acquire), held,
                                                   options)) [[unlikely]] {
            return false;
        }
        // Where the compiler sees that the flags are 0, a put right behind it need not look.
        void* const self = __builtin_assume_aligned(this, alignof(ClientCore));
        got = {Owner(static_cast<ClientCore*>(self)), name_of(mine->lane.held_bits(), held)};
        if ((options & kErase) != 0) [[unlikely]] {
            asm volatile("");  // a branch of its own, and no arithmetic on the common way
            got.owner.add(kErase);
        }
        return true;
    }

    /// The common case of a put of a slot whose handle nobody was given; false: nothing changed.
    [[nodiscard, gnu::always_inline]] bool try_put(Handle name) const noexcept {
        ThreadLane* mine = cached_lane(hot.serial.load(std::memory_order_relaxed));
        if (mine == nullptr || !mine->lane.try_put_private(held_of(mine->lane, name)))
            [[unlikely]] {
            return false;
        }
        if (mine->lane.is_waited_for()) [[unlikely]] {
            mine->lane.share();
        }
        return true;
    }

    /// The common case of giving out a handle for the first time; false: nothing changed.
    [[nodiscard, gnu::always_inline]] bool try_show(Handle name) const noexcept {
        ThreadLane* mine = cached_lane(hot.serial.load(std::memory_order_relaxed));
        return mine != nullptr && mine->lane.try_show(held_of(mine->lane, name));
    }

    /// A slot as its handle and as the lane's client that holds it name it: a word and a handle
    /// differ in their low halves, of which one is exchanged for the other.
    [[nodiscard]] static Handle name_of(std::uint64_t held_bits, shm::Held held) noexcept {
        return Handle(held.word.bits + raw(held.index) + 1U - held_bits);
    }
    [[nodiscard]] static shm::Held held_of(const shm::Lane& lane, Handle name) noexcept {
        return lane.held({shm::SlotIndex{name.index()}, shm::Generation{name.generation()}});
    }
};
static_assert(alignof(ClientCore) >= 8, "its address has room for an Owner's flags");

/// The rest of a get; `error` may be nullptr.
[[nodiscard]] MEMPOOL_EXPORT Got get_slowly(ClientCore* core, std::error_code* error) noexcept;
/// The rest of a put by Slot.
MEMPOOL_EXPORT std::error_code put_slowly(Owner owner, Handle name) noexcept;
/// The rest of giving out a handle for the first time; false if it must not be given out.
[[nodiscard]] MEMPOOL_EXPORT bool show_slowly(Owner owner, Handle name) noexcept;

/// Puts the fast way; false: nothing changed.
[[nodiscard, gnu::always_inline]] inline bool try_put(Owner owner, Handle name) noexcept {
    return owner.is_plain() && owner.plain_core()->try_put(name);
}

/// What a Slot does when its handle is asked for first; false if it must not be given out.
[[nodiscard, gnu::always_inline]] inline bool show(Owner owner, Handle name) noexcept {
    return owner.core()->try_show(name) || show_slowly(owner, name);
}

/// What ~Slot does. By value, so that the Slot itself can stay in registers.
inline void drop(Owner owner, Handle name) noexcept {
    if (!try_put(owner, name)) [[unlikely]] {
        put_slowly(owner, name);
    }
}

}  // namespace mempool::detail
