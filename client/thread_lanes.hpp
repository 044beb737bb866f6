// Which lane this thread uses with which client.
//
// Used by ClientImpl on every get and put. Two halves: a small table that a get looks into, plain
// thread-local memory; and behind it the list of all lanes the thread has, whose destructor gives
// them back when the thread ends. Clients are told apart by serial numbers that are never used
// twice, so what is left of a client that is gone matches none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "mempool/shm/lane.hpp"

namespace mempool::detail {

class ClientImpl;

/// A lane in the hands of one thread, or the home lane under its lock.
struct alignas(shm::kCacheLine) ThreadLane {
    explicit ThreadLane(const shm::Lane& opened) noexcept : lane(opened) {}

    shm::Lane lane;
    ThreadLane* next = nullptr;  // of the client's list; set once
    bool used = false;           // under the client's lock
};

struct CachedLane {
    std::uint64_t serial;
    ThreadLane* lane;
};

/// What no client has as its serial, nor reads as such in a forked child (0).
constexpr std::uint64_t kNoSerial = ~std::uint64_t{0};
constexpr std::size_t kCachedLanes = 4;
/// Serials are multiples of an entry's size, so that one remainder gives an entry's place.
constexpr std::uint64_t kSerialStep = sizeof(CachedLane);

using LaneCache = std::array<CachedLane, kCachedLanes>;

// initial-exec: no call to find it.
extern constinit thread_local LaneCache lane_cache __attribute__((tls_model("initial-exec")));

/// Where this thread keeps the lane of the client with that serial.
[[nodiscard]] inline CachedLane& cache_entry(std::uint64_t serial) noexcept {
    return *reinterpret_cast<CachedLane*>(reinterpret_cast<std::byte*>(lane_cache.data()) +
                                          serial % sizeof(LaneCache));
}

/// The lane this thread last used with the client of that serial, if it is a lane of its own.
[[nodiscard]] inline ThreadLane* cached_lane(std::uint64_t serial) noexcept {
    const CachedLane& cached = cache_entry(serial);
    if (cached.serial != serial) [[unlikely]] {
        return nullptr;
    }
    if (cached.lane == nullptr) {
        __builtin_unreachable();  // an entry with a serial has a lane: saves the caller's check
    }
    return cached.lane;
}

/// This thread's own lane with `client`, claimed at the first call. nullptr if there was none to
/// claim then, or the thread is ending: use the home lane.
[[nodiscard]] ThreadLane* own_lane(ClientImpl& client) noexcept;

}  // namespace mempool::detail
