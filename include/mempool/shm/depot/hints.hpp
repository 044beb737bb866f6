// Which magazines the rings hint at, all in one look: for audits, and for hints that are missing.
//
// Called by the daemon and, over a copy or a read-only mapping, by the inspector. Writes nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "mempool/shm/depot/ring.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// For each magazine, by its id, whether a ring has a hint to it. A hint counts in its own kind of
/// ring only: one to a FULL magazine among the empty ones leads nobody to it.
struct Hints {
    std::vector<bool> full;
    std::vector<bool> empty;

    /// Whether `m`, whose word is `word`, is in the depot and no ring of its kind hints at it.
    [[nodiscard]] bool lack(MagazineId m, MagazineWord word) const {
        return (word.state() == MagazineState::kFull && !full[raw(m)]) ||
               (word.state() == MagazineState::kEmpty && !empty[raw(m)]);
    }
};

/// Reads all cells. O(cells); while hints come and go, one may be missed or counted still.
inline Hints find_hints(const Pool& pool) {
    const std::uint32_t magazines = pool.geometry().magazine_count;
    Hints hints{std::vector<bool>(magazines), std::vector<bool>(magazines)};
    for_each_ring(pool, [&](RingId r) {
        const Ring ring(pool, r);
        std::vector<bool>& hinted = state_in(r) == MagazineState::kFull ? hints.full : hints.empty;
        for (std::uint32_t k = 0; k < ring.capacity(); ++k) {
            const std::uint32_t m = raw(ring.cell(k));
            if (m < hinted.size()) {
                hinted[m] = true;
            }
        }
    });
    return hints;
}

}  // namespace mempool::shm
