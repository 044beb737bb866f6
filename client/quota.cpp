#include "quota.hpp"

#include <algorithm>

namespace mempool::detail {

namespace {
constexpr std::chrono::milliseconds kPause{1};
}  // namespace

std::uint32_t Quota::allow(std::uint32_t wanted) noexcept {
    const std::uint32_t quota = pool_.live().quota.load(std::memory_order_relaxed);
    if (quota == 0) [[likely]] {
        if (quota_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
            quota_.store(0, std::memory_order_relaxed);  // the next one is counted again
        }
        return wanted;
    }
    wanted = std::min(wanted, pool_.magazine_capacity());
    if (quota_.load(std::memory_order_acquire) == quota) {
        if (const std::uint32_t taken = take(wanted); taken != 0) {
            return taken;
        }
    }
    const std::lock_guard guard(counting_);
    const auto now = std::chrono::steady_clock::now();
    if (quota_.load(std::memory_order_relaxed) != quota) {
        left_.store(0, std::memory_order_relaxed);
        quota_.store(quota, std::memory_order_release);
    } else if (const std::uint32_t taken = take(wanted); taken != 0 || now < next_count_) {
        return taken;  // of what another thread counted meanwhile
    }
    // Nothing is left from here on: no thread gets more during the count than it was allowed
    // before.
    const std::uint32_t held = count_held();
    if (held >= quota) {
        next_count_ = now + kPause;
        return 0;
    }
    const std::uint32_t left = quota - held;
    const std::uint32_t taken = std::min(left, wanted);
    left_.store(left - taken, std::memory_order_relaxed);
    return taken;
}

void Quota::give_back(std::uint32_t count) noexcept {
    if (quota_.load(std::memory_order_relaxed) != 0) {
        left_.fetch_add(count, std::memory_order_relaxed);
    }
}

std::uint32_t Quota::take(std::uint32_t wanted) noexcept {
    std::uint32_t left = left_.load(std::memory_order_relaxed);
    std::uint32_t taken = 0;
    do {
        taken = std::min(left, wanted);
    } while (taken != 0 &&
             !left_.compare_exchange_weak(left, left - taken, std::memory_order_relaxed));
    return taken;
}

std::uint32_t Quota::count_held() const noexcept {
    std::uint32_t held = 0;
    for (std::uint32_t i = 0; i < pool_.index_limit(); ++i) {
        const shm::SlotWord word{pool_.word(shm::SlotIndex{i}).load(std::memory_order_relaxed)};
        held += word.is_held_by(client_) ? 1U : 0U;
    }
    return held;
}

}  // namespace mempool::detail
