// A pool's own clock, Live::now: the seconds by which slots are stamped and grow old.
//
// Kept by the daemon; everybody else reads it. It begins with the date at the pool's creation and
// from then on goes by CLOCK_BOOTTIME, so that it never goes back and never jumps, whatever is done
// to the date. An age is Live::now less a stamp, never a difference to a clock of one's own: that
// one may be of another time namespace. While no daemon runs the clock stands still, and a daemon
// that comes back adds what it can tell has passed.
//
// Makes no system call: the caller reads the clocks.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/words/layout.hpp"

namespace mempool::shm {

class PoolClock {
public:
    explicit PoolClock(Live& live) noexcept : live_(live) {}

    /// A daemon begins, at `boot_ns` of CLOCK_BOOTTIME as it reads in `time_namespace` (an inode;
    /// 0: unknown). Goes on from where the clock stands, by the time since a former daemon's last
    /// tick if that was read in the same namespace. `date`: for a pool that has no time yet.
    void start(std::uint64_t boot_ns, std::uint32_t time_namespace, std::uint64_t date) noexcept {
        now_ = live_.now.load(std::memory_order_relaxed);
        if (now_ == 0) {
            now_ = static_cast<std::uint32_t>(date != 0 ? date : 1);
        }
        const std::uint64_t last = live_.ticked_at.load(std::memory_order_relaxed);
        const bool comparable =
            time_namespace != 0 && last != 0 &&
            live_.ticked_in.load(std::memory_order_relaxed) == time_namespace &&
            boot_ns - last < kLongestPauseNs;  // neither later than now nor foreign bytes
        ticked_at_ = comparable ? last : boot_ns;
        live_.ticked_in.store(time_namespace, std::memory_order_relaxed);
        tick(boot_ns);
    }

    /// Moves on to `boot_ns`; the pool's time then.
    std::uint32_t tick(std::uint64_t boot_ns) noexcept {
        if (boot_ns > ticked_at_) {
            const std::uint64_t seconds = (boot_ns - ticked_at_) / kSecondNs;
            now_ += static_cast<std::uint32_t>(seconds);
            ticked_at_ += seconds * kSecondNs;
        }
        live_.now.store(now_, std::memory_order_relaxed);
        live_.ticked_at.store(ticked_at_, std::memory_order_relaxed);
        return now_;
    }

    [[nodiscard]] std::uint32_t now() const noexcept { return now_; }

private:
    static constexpr std::uint64_t kSecondNs = 1'000'000'000;
    static constexpr std::uint64_t kLongestPauseNs = 10ULL * 365 * 86'400 * kSecondNs;

    Live& live_;
    std::uint32_t now_ = 0;
    std::uint64_t ticked_at_ = 0;
};

/// Seconds since `stamp`, a time of the pool's clock. 0 for one that lies ahead.
[[nodiscard]] inline std::uint32_t age_of_stamp(const Live& live, std::uint32_t stamp) noexcept {
    const std::uint32_t now = live.now.load(std::memory_order_relaxed);
    return now > stamp ? now - stamp : 0;
}

}  // namespace mempool::shm
