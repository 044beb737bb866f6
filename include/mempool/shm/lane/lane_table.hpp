// The lane table: claiming and freeing lanes, and the map of those in use.
//
// Used by clients for their threads and by the daemon for what dead clients left. A lane's word
// says whose it is; its bit in the map only spares a thief from looking at thousands of records
// that nobody uses. The bit is set after the claim and cleared before the end, so it is set
// wherever a lane has magazines worth stealing.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "mempool/shm/lane/pulse.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

constexpr std::uint32_t kLanesPerMapWord = 64;

/// Claims lane `id` for `client`; false if it is another's.
/// Linearizes: L1.
/// Pairs:  L1 acquire <- L2 release: the former owner's counters are ours to go on from.
/// ABA:    the word's version grows at every change.
/// Crash:  before L1 nothing changed; after it the word names the client, so reclaim finds the
///         lane, whether or not its bit is set.
inline bool try_claim_lane(const Pool& pool, LaneId id, ClientId client) noexcept {
    std::atomic<std::uint64_t>& word = pool.lane(id).word;
    LaneWord seen{word.load(std::memory_order_relaxed)};
    if (seen.state() != LaneState::kFree ||
        !word.compare_exchange_strong(  // L1
            seen.bits, LaneWord::make(seen.version() + 1U, LaneState::kOwned, client).bits,
            std::memory_order_acquire, std::memory_order_relaxed)) {
        return false;
    }
    pool.lane_map(raw(id) / kLanesPerMapWord)
        .fetch_or(std::uint64_t{1} << (raw(id) % kLanesPerMapWord), std::memory_order_release);
    return true;
}

/// Frees lane `id`, which the caller owns and whose magazines it has given back. Never that of a
/// client that was ended and may live: it would lose kShutOut.
/// Linearizes: L2.
/// Pairs, ABA: see try_claim_lane().
/// Crash:  before L2 the lane is the dead client's, and all this is done again.
inline void free_lane(const Pool& pool, LaneId id) noexcept {
    LaneRecord& lane = pool.lane(id);
    const LaneWord seen{lane.word.load(std::memory_order_relaxed)};
    pool.lane_map(raw(id) / kLanesPerMapWord)
        .fetch_and(~(std::uint64_t{1} << (raw(id) % kLanesPerMapWord)), std::memory_order_relaxed);
    lane.loaded.store(raw(kNoMagazine), std::memory_order_relaxed);
    lane.previous.store(raw(kNoMagazine), std::memory_order_relaxed);
    lane.busy.store(0, std::memory_order_relaxed);
    lane.revoked.store(0, std::memory_order_relaxed);
    // Some, if its threads died asleep. A death in between leaves a sum too high, which the daemon
    // corrects; too low a sum could cost somebody a wake.
    lane.waiting.store(0, std::memory_order_relaxed);
    take_out(pool.live(), lane, WaitWord{lane.counted.load(std::memory_order_relaxed)});
    lane.word.store(LaneWord::make(seen.version() + 1U, LaneState::kFree).bits,  // L2
                    std::memory_order_release);
}

/// Calls `visit(LaneId)` for each lane that the map shows in use, from the one after `start` around
/// to `start` itself, until it returns false.
template <typename Visit>
void visit_lanes(const Pool& pool, LaneId start, Visit&& visit) noexcept {
    const std::uint32_t lanes = pool.geometry().lane_count;
    const std::uint32_t words = (lanes + kLanesPerMapWord - 1) / kLanesPerMapWord;
    const std::uint32_t first = (raw(start) + 1U) % lanes;
    // The first word twice: its upper part at the beginning, its lower part at the end.
    for (std::uint32_t k = 0; k <= words; ++k) {
        const std::uint32_t w = (first / kLanesPerMapWord + k) % words;
        const std::uint64_t upper = ~std::uint64_t{0} << (first % kLanesPerMapWord);
        std::uint64_t bits =
            pool.lane_map(w).load(std::memory_order_acquire) & (k == 0       ? upper
                                                                : k == words ? ~upper
                                                                             : ~std::uint64_t{0});
        for (; bits != 0; bits &= bits - 1) {
            const std::uint32_t lane =
                w * kLanesPerMapWord + static_cast<std::uint32_t>(std::countr_zero(bits));
            if (lane < lanes && !visit(LaneId{lane})) {
                return;
            }
        }
    }
}

}  // namespace mempool::shm
