// The ids of a pool and the three kinds of 64-bit words that decide everything in it.
//
// Used by every process that maps a pool. Pure values: nothing here touches shared memory.
// A word is loaded whole, changed as a value, and stored or compare-exchanged whole.
#pragma once

#include <cstdint>

namespace mempool::shm {

/// A slot's place in the pool's arrays; the same number in every process, for the pool's life.
enum class SlotIndex : std::uint32_t {};
/// Grows by one (mod 2^32) at each get, adopt and reclaim of a slot: old handles are told from new.
/// All that rests on it stands in docs/concurrency.md, What rests on a generation.
enum class Generation : std::uint32_t {};
/// A magazine's place in the magazine array. 0 names no magazine.
enum class MagazineId : std::uint32_t {};
/// A lane's place in the lane table. 0 is the daemon's.
enum class LaneId : std::uint32_t {};
/// A client's place in the client table. 0 is the daemon.
enum class ClientId : std::uint32_t {};

template <typename Id>
constexpr std::uint32_t raw(Id id) noexcept {
    return static_cast<std::uint32_t>(id);
}

constexpr ClientId kDaemonClient{0};
constexpr LaneId kDaemonLane{0};
constexpr MagazineId kNoMagazine{0};

/// Bits of a word's middle field, and so the bound of every id that stands in one.
constexpr std::uint32_t kPlaceBits = 24;
constexpr std::uint32_t kMaxPlace = (1U << kPlaceBits) - 1;

namespace detail {
constexpr std::uint64_t pack(std::uint32_t high, std::uint32_t place, std::uint8_t state) noexcept {
    return (std::uint64_t{high} << 32U) | (std::uint64_t{place & kMaxPlace} << 8U) | state;
}
constexpr std::uint32_t high_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word >> 32U);
}
constexpr std::uint32_t place_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word >> 8U) & kMaxPlace;
}
constexpr std::uint8_t state_of(std::uint64_t word) noexcept {
    return static_cast<std::uint8_t>(word);
}
}  // namespace detail

enum class SlotState : std::uint8_t {
    kAbsent = 0,    ///< no slot here yet: beyond what the pool has grown to
    kFree = 1,      ///< place names the magazine the slot lies in
    kHeld = 2,      ///< place names the client that holds it; nobody was given its handle
    kDetached = 3,  ///< between clients; place names the one that detached it (0: not known)
    kShown = 4,     ///< place names the client that holds it; its handle was given out
};

/// `generation:32 | place:24 | state:8`: the one truth about a slot.
struct SlotWord {
    std::uint64_t bits = 0;

    static constexpr SlotWord free(Generation g, MagazineId m) noexcept {
        return {detail::pack(raw(g), raw(m), static_cast<std::uint8_t>(SlotState::kFree))};
    }
    static constexpr SlotWord held(Generation g, ClientId c) noexcept {
        return {detail::pack(raw(g), raw(c), static_cast<std::uint8_t>(SlotState::kHeld))};
    }
    static constexpr SlotWord shown(Generation g, ClientId c) noexcept {
        return {detail::pack(raw(g), raw(c), static_cast<std::uint8_t>(SlotState::kShown))};
    }
    static constexpr SlotWord detached(Generation g, ClientId by = ClientId{0}) noexcept {
        return {detail::pack(raw(g), raw(by), static_cast<std::uint8_t>(SlotState::kDetached))};
    }
    [[nodiscard]] constexpr SlotState state() const noexcept {
        return static_cast<SlotState>(detail::state_of(bits));
    }
    [[nodiscard]] constexpr Generation generation() const noexcept {
        return Generation{detail::high_of(bits)};
    }
    [[nodiscard]] constexpr MagazineId magazine() const noexcept {
        return MagazineId{detail::place_of(bits)};
    }
    [[nodiscard]] constexpr ClientId client() const noexcept {
        return ClientId{detail::place_of(bits)};
    }
    /// Whether the slot is FREE and lies in `m`: one comparison of the low 32 bits.
    [[nodiscard]] constexpr bool is_free_in(MagazineId m) const noexcept {
        return static_cast<std::uint32_t>(bits) ==
               static_cast<std::uint32_t>(free(Generation{0}, m).bits);
    }
    /// Whether a client holds the slot: HELD or SHOWN.
    [[nodiscard]] constexpr bool is_held() const noexcept {
        return state() == SlotState::kHeld || state() == SlotState::kShown;
    }
    [[nodiscard]] constexpr bool is_held_by(ClientId c) const noexcept {
        return is_held() && client() == c;
    }
    /// Whether the handle was given out, so that whoever has it may put or adopt the slot.
    [[nodiscard]] constexpr bool has_handle() const noexcept {
        return state() == SlotState::kShown || state() == SlotState::kDetached;
    }
    friend constexpr bool operator==(SlotWord, SlotWord) = default;
};

constexpr Generation next(Generation g) noexcept { return Generation{raw(g) + 1U}; }

enum class MagazineState : std::uint8_t {
    kAbsent = 0,  ///< not made yet
    kFull = 1,    ///< in the depot, with at least one slot
    kEmpty = 2,   ///< in the depot, without slots
    kOwned = 3,   ///< place names the lane that works with it
};

/// `version:32 | lane:24 | state:8`: whose a magazine is. The version grows at every change.
struct MagazineWord {
    std::uint64_t bits = 0;

    static constexpr MagazineWord make(std::uint32_t version, MagazineState s,
                                       LaneId lane = LaneId{0}) noexcept {
        return {detail::pack(version, raw(lane), static_cast<std::uint8_t>(s))};
    }
    [[nodiscard]] constexpr MagazineState state() const noexcept {
        return static_cast<MagazineState>(detail::state_of(bits));
    }
    [[nodiscard]] constexpr std::uint32_t version() const noexcept { return detail::high_of(bits); }
    [[nodiscard]] constexpr LaneId lane() const noexcept { return LaneId{detail::place_of(bits)}; }
    [[nodiscard]] constexpr MagazineWord next(MagazineState s,
                                              LaneId lane = LaneId{0}) const noexcept {
        return make(version() + 1U, s, lane);
    }
    friend constexpr bool operator==(MagazineWord, MagazineWord) = default;
};

enum class LaneState : std::uint8_t { kFree = 0, kOwned = 1 };

/// `version:32 | client:24 | state:8`: which client a lane belongs to.
struct LaneWord {
    std::uint64_t bits = 0;

    static constexpr LaneWord make(std::uint32_t version, LaneState s,
                                   ClientId client = kDaemonClient) noexcept {
        return {detail::pack(version, raw(client), static_cast<std::uint8_t>(s))};
    }
    [[nodiscard]] constexpr LaneState state() const noexcept {
        return static_cast<LaneState>(detail::state_of(bits));
    }
    [[nodiscard]] constexpr std::uint32_t version() const noexcept { return detail::high_of(bits); }
    [[nodiscard]] constexpr ClientId client() const noexcept {
        return ClientId{detail::place_of(bits)};
    }
    friend constexpr bool operator==(LaneWord, LaneWord) = default;
};

/// `round:32 | count:32`: how many of a lane's threads are counted among those who wait. The round
/// grows when they are taken out because none of them moved: who registered in another is out.
struct WaitWord {
    std::uint64_t bits = 0;

    static constexpr WaitWord make(std::uint32_t round, std::uint32_t count) noexcept {
        return {(std::uint64_t{round} << 32U) | count};
    }
    [[nodiscard]] constexpr std::uint32_t round() const noexcept { return detail::high_of(bits); }
    [[nodiscard]] constexpr std::uint32_t count() const noexcept {
        return static_cast<std::uint32_t>(bits);
    }
    friend constexpr bool operator==(WaitWord, WaitWord) = default;
};

enum class ClientState : std::uint32_t {
    kFree = 0,     ///< no client
    kActive = 1,   ///< attached; its process is supervised
    kLeaving = 2,  ///< the client said it is done: all that it still owns may be taken
    kDead = 3,     ///< its reclaim has begun
    kEnded = 4,    ///< an operator ended it; its process may live and still map the pool
    kUnseen = 5,   ///< as ACTIVE, but the daemon cannot see its process: it counts as alive
};

}  // namespace mempool::shm
