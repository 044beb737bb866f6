// Ending a client whose process may live: it can do nothing any more, and its caches go to others.
//
// Called by the daemon only, on its one thread, where an operator says so or a judgement was wrong.
// Never frees a lane or an id, and never clears kShutOut: that waits until the process is dead or
// has unmapped the pool, and is reclaim()'s.
//
//   daemon   E0 epoch + 1 ; fence ; E2 kShutOut in each lane of the client ; S3 barrier ;
//            S4 busy == 0? ; E3 CAS the lane's magazines to its own
//   client   B1 ; B2 revoked? if so: V1 clears the thief's bit ; V2 fence ; E1 epoch as it was? if
//            not: forgets its magazines and refuses, from then on for ever ; else V3
//
// As between thief and victim (steal.hpp): either B2 sees E2, or S4 sees B1. Seen idle at S4, the
// client's next operation in that lane finds the bit, which nobody clears, and then by V2 the
// epoch: so it never touches a magazine again, and E3 need not name a word read before E2. A lane
// that is busy at S4 is left alone; once it is idle, the next call takes what it has.
//
// A lane that is opened meanwhile refuses by itself: see LaneMagazines::open(). An adopt or a
// detach looks at the epoch without a busy section, so one that has begun may still change its
// one word, by CAS: the slot is then held by the ended client, as others that its program has.
// tests/model/steal.pml, with END, is this as a model.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/depot/membarrier.hpp"
#include "mempool/shm/recovery/mend_magazines.hpp"
#include "mempool/shm/recovery/slot_pass.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// What one shut_out() did.
struct EndedLanes {
    std::uint64_t slots = 0;      ///< given to the depot
    std::uint32_t magazines = 0;  ///< in which they were, the empty ones too
    std::uint32_t busy = 0;       ///< lanes in mid-operation, left alone: call it again in a second
};

/// E0: the attachment under `id` has ended. `epoch` is the daemon's own count, one more than it
/// was: what stands in the record may have been written over.
/// Pairs:  E0 release -> E1 acquire; the fence against the one in open() and V2, see there.
inline void raise_epoch(const Pool& pool, ClientId id, std::uint32_t epoch) noexcept {
    pool.client(id).epoch.store(epoch, std::memory_order_release);  // E0
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

/// Shuts out all lanes of client `id`, after raise_epoch(), and gives to the depot what those of
/// them that are in no operation have cached. To be called again until no lane is busy. Where
/// membarrier is refused to the daemon, lanes that don't fence themselves count as busy.
/// Linearizes: each lane at E2, each magazine at E3 (T1).
/// Pairs:  S4 acquire <- B3 release: count, items and words as the client left them.
///         E2, S3, S4 against B1, B2: see above.
/// ABA:    a magazine's word is read first, its lane's second: if that is still as it was when the
///         lane was judged, the magazine was not claimed by a later owner of the lane (as R0). E3
///         names the version.
/// Crash:  after E0 the client refuses; after some of E2 the next daemon sets the others; after E3
///         the magazine is OWNED(lane 0), dead at the next start.
inline EndedLanes shut_out(const Pool& pool, ClientId id) {
    EndedLanes result;
    const std::uint32_t lane_count = pool.geometry().lane_count;
    std::vector<LaneWord> judged(lane_count);  // the word of a lane to be taken from, else zeros
    for (std::uint32_t l = raw(kDaemonLane) + 1; l < lane_count; ++l) {
        LaneRecord& lane = pool.lane(LaneId{l});
        const LaneWord word{lane.word.load(std::memory_order_acquire)};
        if (word.state() != LaneState::kOwned || word.client() != id) {
            continue;
        }
        lane.revoked.fetch_or(kShutOut, std::memory_order_seq_cst);  // E2
        if (lane.word.load(std::memory_order_acquire) != word.bits) {
            // Its owner gave it up before it saw the bit. It may be another's now, which the bit
            // would slow down.
            lane.revoked.fetch_and(~kShutOut, std::memory_order_relaxed);
            continue;
        }
        judged[l] = word;
    }
    const bool reaches_all = barrier();                   // S3
    std::atomic_thread_fence(std::memory_order_seq_cst);  // S3, for lanes that fence themselves
    for (std::uint32_t l = raw(kDaemonLane) + 1; l < lane_count; ++l) {
        const LaneRecord& lane = pool.lane(LaneId{l});
        const bool reached =
            reaches_all || (lane.revoked.load(std::memory_order_relaxed) & kFenced) != 0;
        if (judged[l] != LaneWord{} &&
            (!reached || lane.busy.load(std::memory_order_acquire) != 0)) {  // S4
            judged[l] = {};
            ++result.busy;
        }
    }
    DaemonDepot depot(pool);
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const MagazineId magazine{m};
        const MagazineWord seen{pool.magazine(magazine).word.load(std::memory_order_acquire)};
        if (seen.state() != MagazineState::kOwned || raw(seen.lane()) >= lane_count) {
            continue;
        }
        const LaneWord owner = judged[raw(seen.lane())];
        if (owner != LaneWord{} &&
            pool.lane(seen.lane()).word.load(std::memory_order_acquire) == owner.bits &&
            depot.try_claim(magazine, seen)) {  // E3
            detail::tidy_magazine(pool, magazine);
            result.slots += depot.count(magazine);
            ++result.magazines;
            depot.give(magazine);
        }
    }
    depot.wake(result.slots);
    return result;
}

/// For a SlotPass: slots that client `client` holds, HELD or SHOWN.
struct HeldBy {
    ClientId client;
    bool operator()(SlotIndex /*i*/, SlotWord seen) const noexcept {
        return seen.is_held_by(client);
    }
};

/// Frees what the program of an ended client still holds, though it may go on writing there: only
/// where an operator insists. Returns how many slots. Its lanes and its id stay as they are.
/// `erase` as in reclaim(). Requires: shut_out() has found no lane busy, or a put in mid-operation
/// (F2) could free a slot that another got.
/// Linearizes: each slot at R2 (or R1, when it is erased first).
/// ABA:    both name the generation, which grows: handles that the client gave away are stale.
/// Crash:  as reclaim().
template <typename Erase>
std::uint64_t take_from_ended(const Pool& pool, ClientId id, Erase&& erase) {
    SlotPass<HeldBy> pass(pool, HeldBy{id}, detail::kBatch<Erase>);
    detail::finish_pass(pass, erase);
    pool.live().reclaimed.fetch_add(pass.freed(), std::memory_order_relaxed);
    return pass.freed();
}

}  // namespace mempool::shm
