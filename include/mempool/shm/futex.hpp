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

/// Wakes every process that sleeps on `word`.
inline void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace mempool::shm
