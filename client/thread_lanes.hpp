// Which lane this thread uses with which client.
//
// Used by ClientImpl on every get and put. Two halves: the lane used last, plain thread-local
// memory that a get looks at; and behind it the list of all lanes the thread has, whose destructor
// gives them back when the thread ends. Clients are told apart by serial numbers that are never
// used twice, so what is left of a client that is gone matches none.
#pragma once

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

/// A lane, and the client it belongs to.
struct CachedLane {
    std::uint64_t serial;
    ThreadLane* lane;
};

/// What no client has as its serial, nor reads as such in a forked child (0).
constexpr std::uint64_t kNoSerial = ~std::uint64_t{0};

// What this thread used last. initial-exec: no call to find it.
extern constinit thread_local CachedLane last_lane __attribute__((tls_model("initial-exec")));

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

/// This thread's own lane with `client`, claimed at the first call. nullptr if there was none to
/// claim then, or the thread is ending: use the home lane.
[[nodiscard]] ThreadLane* own_lane(ClientImpl& client) noexcept;

}  // namespace mempool::detail
