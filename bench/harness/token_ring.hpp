// The queue by which slots cross from one process to another in the hand-over cases: the same for
// all peers, so that what differs is the pool.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace bench {

/// Tokens from one party to one other. Lives in zeroed shared memory. Who waits spins a little,
/// then yields the processor.
class TokenRing {
public:
    /// Appends all of `tokens`, visible at once; at most kCapacity.
    void push(std::span<const std::uint64_t> tokens) {
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
        wait([&] {
            return tail + tokens.size() - head_.load(std::memory_order_acquire) <= kCapacity;
        });
        for (std::size_t k = 0; k < tokens.size(); ++k) {
            tokens_[(tail + k) % kCapacity] = tokens[k];
        }
        tail_.store(tail + tokens.size(), std::memory_order_release);
    }

    /// Fills `tokens` with the oldest ones.
    void pop(std::span<std::uint64_t> tokens) {
        const std::uint64_t head = head_.load(std::memory_order_relaxed);
        wait([&] { return tail_.load(std::memory_order_acquire) - head >= tokens.size(); });
        for (std::size_t k = 0; k < tokens.size(); ++k) {
            tokens[k] = tokens_[(head + k) % kCapacity];
        }
        head_.store(head + tokens.size(), std::memory_order_release);
    }

private:
    static constexpr std::size_t kCapacity = 1024;

    template <typename Ready>
    static void wait(Ready ready) {
        for (int spins = 0; !ready(); ++spins) {
            if (spins < 128) {
                __builtin_ia32_pause();
            } else {
                ::sched_yield();
            }
        }
    }

    alignas(64) std::atomic<std::uint64_t> head_;
    alignas(64) std::atomic<std::uint64_t> tail_;
    alignas(64) std::uint64_t tokens_[kCapacity] = {};
};

}  // namespace bench
