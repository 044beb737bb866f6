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
class DaemonDepot {
public:
    explicit DaemonDepot(const Pool& pool) noexcept
        : depot_(pool),
          full_(pool.live().full, pool.full_cells(), pool.geometry().ring_capacity),
          empty_(pool.live().empty, pool.empty_cells(), pool.geometry().ring_capacity),
          pops_left_(pool.geometry().ring_capacity) {}

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
        return depot_.try_claim(m, seen, kDaemonLane);
    }

    /// As Depot::give(), but the hint is left out where the ring takes none.
    void give(MagazineId m) noexcept {
        MagazineHead& magazine = pool().magazine(m);
        const MagazineWord word{magazine.word.load(std::memory_order_relaxed)};
        const bool has_slots = depot_.count(m) != 0;
        magazine.word.store(
            word.next(has_slots ? MagazineState::kFull : MagazineState::kEmpty).bits,  // G1
            std::memory_order_release);
        push(has_slots ? full_ : empty_, m);
    }

    /// Pushes a hint for `m` if its word says FULL or EMPTY; whether it did.
    bool hint(MagazineId m) noexcept {
        const MagazineWord word{pool().magazine(m).word.load(std::memory_order_acquire)};
        switch (word.state()) {
            case MagazineState::kFull:
                return push(full_, m);
            case MagazineState::kEmpty:
                return push(empty_, m);
            default:
                return false;
        }
    }

    [[nodiscard]] std::uint32_t count(MagazineId m) const noexcept { return depot_.count(m); }
    void wake(std::uint64_t slots) noexcept { depot_.wake(slots); }
    [[nodiscard]] const Pool& pool() const noexcept { return depot_.pool(); }
    [[nodiscard]] const Ring& full_ring() const noexcept { return full_; }
    [[nodiscard]] const Ring& empty_ring() const noexcept { return empty_; }

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
        if (!given || depot_.count(m) >= pool().magazine_capacity() || !try_claim(m, seen)) {
            return false;
        }
        if (depot_.count(m) < pool().magazine_capacity()) {
            return true;
        }
        give(m);  // filled since
        return false;
    }

    Depot depot_;
    Ring full_;
    Ring empty_;
    std::uint32_t pops_left_;
    std::uint32_t scanned_ = 1;
    int failures_ = 0;
};

}  // namespace mempool::shm
