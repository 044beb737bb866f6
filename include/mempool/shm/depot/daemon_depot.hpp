// The depot as the daemon uses it: whatever others write into the rings meanwhile, each call ends.
//
// The daemon must not work longer for one pool than that pool's size warrants, since it serves
// others too. So it takes room from the ring while that gives some, and from then on goes by the
// magazines' words, which need no ring; and it stops pushing hints where pushes keep failing. What
// it then leaves out, rehint() pushes later.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/depot/depot.hpp"
#include "mempool/shm/depot/ring.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// For one piece of the daemon's work. What it claims is OWNED(lane 0), which counts as dead when a
/// daemon starts.
class DaemonDepot : private Depot {
public:
    explicit DaemonDepot(const Pool& pool) noexcept
        : Depot(pool),
          pops_left_(pool.geometry().ring_capacity * std::uint64_t{pool.shard_count()}) {}

    using Depot::count;
    using Depot::pool;
    using Depot::wake;

    /// Claims a magazine with room; kNoMagazine if there is none.
    [[nodiscard]] MagazineId claim_room() noexcept {
        while (shard_ < pool().shard_count() && pops_left_ != 0) {
            --pops_left_;
            Ring ring(pool(), empty_ring(shard_));
            const Hint hint = ring.peek();
            if (hint.magazine == kNoMagazine) {
                ++shard_;
                continue;
            }
            const bool claimed = claim_with_room(hint.magazine);
            ring.remove(hint);
            if (claimed) {
                return hint.magazine;
            }
        }
        // The hint of what is claimed here stays in its ring and is stale: whoever pops it drops
        // it.
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

    /// As Depot::give(), to one shard after the other; the hint is left out where none takes it.
    void give(MagazineId m) noexcept { push(give_word(m), m, next_home_++); }

    /// Pushes a hint for `m`, into shard `shard` if it has room, if its word says FULL or EMPTY. A
    /// hint too many does no harm. Returns whether it pushed one.
    bool hint(MagazineId m, std::uint32_t shard) noexcept {
        switch (MagazineWord{pool().magazine(m).word.load(std::memory_order_acquire)}.state()) {
            case MagazineState::kFull:
                return push(&full_ring, m, shard);
            case MagazineState::kEmpty:
                return push(&empty_ring, m, shard);
            default:
                return false;
        }
    }

private:
    // A push fails at once where the rings are full; where somebody keeps rewriting one, after a
    // million tries.
    static constexpr int kMostFailures = 4;

    bool push(RingOf sort, MagazineId m, std::uint32_t shard) noexcept {
        if (failures_ >= kMostFailures) {
            return false;
        }
        const bool pushed = Depot::push(sort, m, shard);
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

    std::uint64_t pops_left_;
    std::uint32_t shard_ = 0;      // where there may be empty magazines
    std::uint32_t next_home_ = 0;  // of the next one given
    std::uint32_t scanned_ = 1;
    int failures_ = 0;
};

}  // namespace mempool::shm
