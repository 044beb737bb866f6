// How the cases take time.
//
// A figure is the median over chunks of about a thousand slots: long enough to contain everything
// that a peer does now and then (a batch fetched, a lock waited for), short enough that a chunk in
// which another program got the processor is an outlier and not a part of the sum.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;

/// Slots in a chunk of small ones.
constexpr std::uint64_t kChunk = 1024;

/// Takes the time of each chunk of `slots` slots; nothing is allocated after it is made.
class Stopwatch {
public:
    explicit Stopwatch(std::uint64_t slots) : slots_(slots) { chunks_.reserve(kMost); }
    void start() { last_ = Clock::now(); }
    /// A chunk is over; the time.
    Clock::time_point lap() {
        const auto now = Clock::now();
        if (chunks_.size() < kMost) {
            chunks_.push_back(std::chrono::duration<float, std::nano>(now - last_).count());
        }
        last_ = now;
        return now;
    }
    /// Nanoseconds a slot: the median of all chunks.
    [[nodiscard]] double ns_per_slot() {
        if (chunks_.empty()) {
            throw std::runtime_error("nothing was measured");
        }
        const auto middle = chunks_.begin() + static_cast<std::ptrdiff_t>(chunks_.size() / 2);
        std::nth_element(chunks_.begin(), middle, chunks_.end());
        return static_cast<double>(*middle) / static_cast<double>(slots_);
    }

private:
    static constexpr std::size_t kMost = 65536;
    std::uint64_t slots_;
    std::vector<float> chunks_;
    Clock::time_point last_;
};

}  // namespace bench
