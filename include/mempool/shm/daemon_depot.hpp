// The depot as the daemon uses it: whatever others write into the rings meanwhile, each call ends.
//
// The daemon must not work longer for one pool than that pool's size warrants, since it serves
// others too. So it takes room from the ring while that gives some, and from then on goes by the
// magazines' words, which need no ring; and it stops pushing hints where pushes keep failing. What
// it then leaves out, rehint() pushes later.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/depot.hpp"
#include "mempool/shm/layout.hpp"
#include "mempool/shm/pool.hpp"
#include "mempool/shm/ring.hpp"

namespace mempool::shm {

/// For one piece of the daemon's work. Owned magazines are OWNED(lane 0): dead when a daemon
/// starts.
class DaemonDepot : private Depot {
public:
    explicit DaemonDepot(const Pool& pool) noexcept
        : Depot(pool), pops_left_(pool.geometry().ring_capacity) {}

    using Depot::count;
    using Depot::empty_ring;
    using Depot::full_ring;
    using Depot::pool;
    using Depot::wake;

    /// Claims a magazine with room; kNoMagazine if there is none.
    [[nodiscard]] MagazineId claim_room() noexcept {
        while (pops_left_ != 0) {
            --pops_left_;
            const Hint hint = empty_.peek();
            if (hint.magazine == kNoMagazine) {
                pops_left_ = 0;
                break;
            }
            const bool claimed = claim_with_room(hint.magazine);
            empty_.remove(hint);
            if (claimed) {
                return hint.magazine;
            }
        }
        // Its hint stays in the ring, stale: whoever pops it finds it so.
        for (; scanned_ < pool().magazine_limit(); ++scanned_) {
            if (claim_with_room(MagazineId{scanned_})) {
                return MagazineId{scanned_++};
            }
        }
        return kNoMagazine;
    }

    /// Claims `m` if its word still is `seen`. As Depot::try_claim().
    bool try_claim(MagazineId m, MagazineWord seen) noexcept {
        return Depot::try_claim(m, seen, kDaemonLane);
    }

    /// As Depot::give(), but the hint is left out where the ring takes none.
    void give(MagazineId m) noexcept { push(give_word(m), m); }

    /// As Depot::hint(), within the same limit.
    bool hint(MagazineId m) noexcept {
        Ring* const ring = ring_of(m);
        return ring != nullptr && push(*ring, m);
    }

private:
    // A push fails at once where the ring is full; where somebody keeps rewriting it, after a
    // million tries.
    static constexpr int kMostFailures = 4;

    bool push(Ring& ring, MagazineId m) noexcept {
        if (failures_ >= kMostFailures) {
            return false;
        }
        const bool pushed = ring.push(m);
        failures_ += pushed ? 0 : 1;
        return pushed;
    }

    bool claim_with_room(MagazineId m) noexcept {
        if (!pool().has_magazine(m)) {
            return false;
        }
        const MagazineWord seen{pool().magazine(m).word.load(std::memory_order_relaxed)};
        const bool given =
            seen.state() == MagazineState::kEmpty || seen.state() == MagazineState::kFull;
        if (!given || count(m) >= pool().magazine_capacity() || !try_claim(m, seen)) {
            return false;
        }
        if (count(m) < pool().magazine_capacity()) {
            return true;
        }
        give(m);  // filled since
        return false;
    }

    std::uint32_t pops_left_;
    std::uint32_t scanned_ = 1;
    int failures_ = 0;
};

}  // namespace mempool::shm
