// Counting where the slots are, while clients work.
//
// Called by the daemon and, over a read-only mapping, by libmempool's inspector. Writes nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// Where the slots are, each counted once by its word: the sum of the five is the slots there are.
struct Census {
    std::uint64_t slots = 0;             ///< as the segment table says
    std::uint64_t free = 0;              ///< in the depot: any client can get them
    std::uint64_t cached = 0;            ///< in a lane's magazine: that lane gets them first
    std::uint64_t held = 0;              ///< by a client, HELD or SHOWN
    std::uint64_t detached = 0;          ///< between clients
    std::uint64_t unknown = 0;           ///< with a word that makes no sense; 0 unless overwritten
    std::vector<std::uint64_t> held_by;  ///< by client id
};

/// Counts every slot once, by its word. O(slots); while slots move, one may be counted as where it
/// was a moment ago. `unknown` is what is in no known state, or FREE in a magazine not announced.
inline Census take_census(const Pool& pool) {
    Census census;
    census.held_by.resize(pool.geometry().shape.client_count);
    std::uint32_t limit = pool.magazine_limit();
    MagazineId last = kNoMagazine;
    bool last_owned = false;
    for_each_slot(pool, [&](SlotIndex i) {
        ++census.slots;
        const SlotWord word{pool.word(i).load(std::memory_order_acquire)};
        switch (word.state()) {
            case SlotState::kFree:
                if (raw(word.magazine()) >= limit) {
                    limit = pool.magazine_limit();  // it may have grown
                }
                if (raw(word.magazine()) >= limit) {
                    ++census.unknown;
                    break;
                }
                if (word.magazine() != last) {
                    last = word.magazine();
                    last_owned =
                        MagazineWord{pool.magazine(last).word.load(std::memory_order_acquire)}
                            .state() == MagazineState::kOwned;
                }
                ++(last_owned ? census.cached : census.free);
                break;
            case SlotState::kHeld:
            case SlotState::kShown:
                ++census.held;
                if (raw(word.client()) < census.held_by.size()) {
                    ++census.held_by[raw(word.client())];
                }
                break;
            case SlotState::kDetached:
                ++census.detached;
                break;
            default:
                ++census.unknown;
        }
    });
    return census;
}

/// Slots any client can get at once: those in FULL magazines, by the magazines' counts. Cheaper
/// than a census by the magazine capacity; an estimate while slots move.
inline std::uint64_t count_depot(const Pool& pool) {
    std::uint64_t free = 0;
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const MagazineHead& magazine = pool.magazine(MagazineId{m});
        const MagazineWord word{magazine.word.load(std::memory_order_relaxed)};
        if (word.state() == MagazineState::kFull) {
            const std::uint32_t count = magazine.count.load(std::memory_order_relaxed);
            free += count < pool.magazine_capacity() ? count : pool.magazine_capacity();
        }
    }
    return free;
}

}  // namespace mempool::shm
