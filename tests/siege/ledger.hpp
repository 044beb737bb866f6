// What all processes of a siege write down, in memory that they share.
//
// Made by the siege before it forks; written by attackers and besieged, who may be killed at any
// moment. Counters only grow.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace mempool_test {

constexpr std::size_t kMostKinds = 96;

enum class Phase : std::uint32_t { kPeace, kSiege, kOver };

/// Measurements of one kind, of many processes. What comes when it is full is left out.
class Samples {
public:
    void add(std::uint32_t value) noexcept;
    [[nodiscard]] std::vector<std::uint32_t> sorted() const;

private:
    static constexpr std::uint32_t kMost = 1U << 18U;
    std::atomic<std::uint32_t> count_;
    std::array<std::atomic<std::uint32_t>, kMost> values_;  ///< plus one; 0 is none yet
};

/// The least of `sorted` that `part` of them do not exceed; 0 if there are none.
std::uint32_t percentile(const std::vector<std::uint32_t>& sorted, double part);

struct Ledger {
    std::array<std::atomic<std::uint64_t>, kMostKinds> tried;    ///< acts, by kind
    std::array<std::atomic<std::uint64_t>, kMostKinds> in_vain;  ///< of these: could not be done
    std::atomic<Phase> phase;
    std::atomic<std::uint32_t> open_lost;  ///< 1: the open pool was given up; make it again
    std::atomic<std::uint64_t> open_attaches;
    std::atomic<std::uint64_t> breaches;  ///< times that somebody got what he has no right to
    std::array<char, 240> first_breach;   ///< zero-terminated
    std::atomic<std::uint32_t> refusals;  ///< more than 0: somebody writes, or wrote, the first
    std::array<char, 240> first_refusal;  ///< of an attach of the besieged, zero-terminated
    std::array<Samples, 2> attach_us;     ///< of the besieged, by phase
    std::array<Samples, 2> pair_ps;       ///< of a get and its put, by phase
};

/// Writes `text` where `count` was 0, and counts.
template <typename Count, std::size_t N>
void note(std::atomic<Count>& count, std::array<char, N>& first, std::string_view text) {
    if (count.fetch_add(1) == 0) {
        text.copy(first.data(), N - 1);  // the rest is zero
    }
}

/// A new one, all zeros; it stays until the process ends. Throws std::system_error.
Ledger& make_ledger();

}  // namespace mempool_test
