// Futexes on words in shared memory (futex(2)); std::atomic::wait is private to a process.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <ctime>

namespace mempool::shm {

/// Sleeps until `word` differs from `expected`, a wake, a signal, or `timeout` (monotonic). May
/// return early for no reason: the caller looks again.
inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::chrono::nanoseconds timeout) noexcept {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
    timespec relative{};
    relative.tv_sec = seconds.count();
    relative.tv_nsec = (timeout - seconds).count();
    ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &relative, nullptr, 0);
}

/// Wakes up to `count` of the threads that sleep on `word`, in any process; the kernel wakes those
/// of one priority in the order in which they went to sleep.
inline void futex_wake(std::atomic<std::uint32_t>& word, std::uint64_t count) noexcept {
    const int most = count < INT_MAX ? static_cast<int>(count) : INT_MAX;
    ::syscall(SYS_futex, &word, FUTEX_WAKE, most, nullptr, nullptr, 0);
}

}  // namespace mempool::shm
