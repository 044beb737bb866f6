// What a client may still get of its pool's quota, counted where it leaves the fast path.
//
// Used by ClientImpl; any thread. A pool's quota is a rule among those who keep it: the library
// does, and a program that writes into the pool by itself is only seen by the daemon.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

#include "mempool/shm/words/pool.hpp"

namespace mempool::detail {

/// Counts the slots that a client holds by their words, which takes a pass over the pool's, and
/// then lets it get as many as are left before it counts again.
class Quota {
public:
    Quota(const shm::Pool& pool, shm::ClientId client) noexcept : pool_(pool), client_(client) {}

    /// How many of `wanted` slots may be got now, at most a magazine's: so much may be under way in
    /// a thread while another counts. 0: none. Without a quota: all. After a 0 it does not count
    /// again for a millisecond.
    [[nodiscard]] std::uint32_t allow(std::uint32_t wanted) noexcept;
    /// `count` of those allowed were not got after all.
    void give_back(std::uint32_t count) noexcept;

private:
    [[nodiscard]] std::uint32_t take(std::uint32_t wanted) noexcept;
    [[nodiscard]] std::uint32_t count_held() const noexcept;

    shm::Pool pool_;
    shm::ClientId client_;
    std::atomic<std::uint32_t> left_{0};
    std::atomic<std::uint32_t> quota_{0};  // that left_ was counted for
    std::mutex counting_;
    std::chrono::steady_clock::time_point next_count_{};  // under counting_
};

}  // namespace mempool::detail
