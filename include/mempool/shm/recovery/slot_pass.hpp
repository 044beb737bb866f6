// Passes over all slots, by which the daemon takes slots back from whoever held them.
//
// Called by the daemon only, on one thread, while clients work. A pass over a large pool is done in
// pieces, with other work of the daemon in between: see reclaim.hpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

namespace detail {

/// Puts slots into magazines of the daemon's lane, and these into the depot when they are full.
class Filler {
public:
    explicit Filler(DaemonDepot& depot) noexcept : depot_(depot) {}
    Filler(const Filler&) = delete;
    Filler& operator=(const Filler&) = delete;
    ~Filler() { flush(); }

    /// Frees slot `i` if its word still is `seen`. The generation grows, so that handles of the
    /// former holder are stale (I2). False if the word changed, or no magazine has room.
    /// Linearizes: R2.
    /// Pairs:  R2 release -> C0 acquire in get().
    /// ABA:    R2 names the generation.
    /// Crash:  as Lane::put(): the index is in items[count] before R2.
    bool put(SlotIndex i, SlotWord seen) noexcept {
        const Pool& pool = depot_.pool();
        if (magazine_ == kNoMagazine || count_ >= pool.magazine_capacity()) {
            flush();
            magazine_ = depot_.claim_room();
            if (magazine_ == kNoMagazine) {
                return false;
            }
            count_ = depot_.count(magazine_);
            if (count_ >= pool.magazine_capacity()) {  // written over since it was looked at
                flush();
                return false;
            }
        }
        MagazineHead& magazine = pool.magazine(magazine_);
        Pool::items(magazine)[count_].store(raw(i), std::memory_order_relaxed);
        const SlotWord freed = SlotWord::free(next(seen.generation()), magazine_);
        if (!pool.word(i).compare_exchange_strong(seen.bits, freed.bits,  // R2
                                                  std::memory_order_acq_rel,
                                                  std::memory_order_relaxed)) {
            return false;
        }
        pool.record(i).tag.store(0, std::memory_order_relaxed);  // the former holder's
        magazine.count.store(++count_, std::memory_order_release);
        return true;
    }

    void flush() noexcept {
        if (magazine_ != kNoMagazine) {
            depot_.give(magazine_);
            magazine_ = kNoMagazine;
        }
    }

private:
    DaemonDepot& depot_;
    MagazineId magazine_ = kNoMagazine;
    std::uint32_t count_ = 0;
};

/// Takes slot `i` into the daemon's hands, to be erased, if its word still is `seen`. Returns the
/// word it has then.
/// Linearizes: R1.
/// ABA:    R1 names the generation.
/// Crash:  after R1 the slot is HELD(client 0), which counts as dead when a daemon starts.
inline std::optional<SlotWord> hold_slot(const Pool& pool, SlotIndex i, SlotWord seen) noexcept {
    const SlotWord mine = SlotWord::held(next(seen.generation()), kDaemonClient);
    if (!pool.word(i).compare_exchange_strong(seen.bits, mine.bits,  // R1
                                              std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {
        return std::nullopt;
    }
    return mine;
}

/// Frees slot `i` if its word still is `seen`, through the daemon's own hands if it is to be erased
/// first: `erase(SlotIndex)`, or nullptr. Returns whether it did.
/// Linearizes: R2 (or R1, when it is erased).
/// ABA, Crash: as hold_slot() and Filler::put().
template <typename Erase>
bool take_slot(const Pool& pool, Filler& filler, SlotIndex i, SlotWord seen, Erase& erase) {
    if constexpr (!std::is_same_v<std::decay_t<Erase>, std::nullptr_t>) {
        const auto mine = hold_slot(pool, i, seen);
        if (!mine) {
            return false;
        }
        erase(i);
        seen = *mine;
    }
    return filler.put(i, seen);
}

/// A walk over all slots that is done in pieces: where it stands.
class SlotWalk {
public:
    /// Calls `visit(SlotIndex)` for the next slots, as for_each_slot() would, until it returns
    /// false or `looks`, which it counts down, is zero. False once there are no more slots.
    template <typename Visit>
    bool go_on(const Pool& pool, std::size_t& looks, Visit&& visit) {
        for (; segment_ < pool.segment_count(); ++segment_) {
            const SegmentEntry entry = pool.read_segment(segment_);
            const std::uint32_t end = std::min(entry.end_index(), pool.geometry().index_capacity);
            next_ = std::max(next_, entry.first_index);
            while (next_ < end) {
                if (looks == 0) {
                    return true;
                }
                --looks;
                if (!visit(SlotIndex{next_++})) {
                    return true;
                }
            }
        }
        return false;
    }

private:
    std::uint32_t segment_ = 0;
    std::uint32_t next_ = 0;
};

}  // namespace detail

/// What a piece of a pass came to.
enum class PassStep : std::uint8_t {
    kMore,   ///< step() is to be called again
    kErase,  ///< held() is to be erased, then freed by free_held(), then step() called again
    kDone,
};

/// A slot in the daemon's hands, HELD(client 0) as long as nobody writes over its word.
struct HeldSlot {
    SlotIndex index{};
    SlotWord word;
};

/// A pass over all slots that takes back those for which `wanted(SlotIndex, SlotWord)` is true.
/// With a `batch`, it holds up to that many at a time for its caller to erase; 0: nothing is
/// erased.
///
/// Linearizes: each slot at R2 (or R1, when it is erased first).
/// Pairs:  R3 acquire <- C1, A1, D1 release: the time read is the one stamped before.
/// ABA:    R1 and R2 name the generation, so a slot that was returned and got again is left alone.
/// Crash:  of the daemon: what it took is HELD(client 0), dead at the next start, or in
///         items[count] as a put.
template <typename Wanted>
class SlotPass {
public:
    SlotPass(const Pool& pool, Wanted wanted, std::size_t batch)
        : pool_(pool), wanted_(std::move(wanted)), batch_(batch) {
        held_.reserve(batch);  // so that no push_back() after R1 can fail
    }
    SlotPass(const SlotPass&) = delete;
    SlotPass& operator=(const SlotPass&) = delete;
    ~SlotPass() = default;

    /// Goes on for about `looks` slots.
    PassStep step(std::size_t looks) {
        DaemonDepot depot(pool_);
        detail::Filler filler(depot);
        const std::uint64_t before = freed_;
        const bool more = walk_.go_on(pool_, looks, [&](SlotIndex i) {
            const SlotWord seen{pool_.word(i).load(std::memory_order_acquire)};  // R3
            if (wanted_(i, seen)) {
                take(filler, i, seen);
            }
            return batch_ == 0 || held_.size() < batch_;
        });
        filler.flush();
        depot.wake(freed_ - before);
        if (!held_.empty() && (!more || held_.size() >= batch_)) {
            return PassStep::kErase;
        }
        return more ? PassStep::kMore : PassStep::kDone;
    }

    /// What the daemon holds now.
    [[nodiscard]] const std::vector<HeldSlot>& held() const noexcept { return held_; }
    /// Frees all that it holds.
    void free_held() {
        DaemonDepot depot(pool_);
        detail::Filler filler(depot);
        const std::uint64_t before = freed_;
        for (const HeldSlot& slot : held_) {
            freed_ += filler.put(slot.index, slot.word) ? 1U : 0U;
        }
        held_.clear();
        filler.flush();
        depot.wake(freed_ - before);
    }

    /// Slots freed so far.
    [[nodiscard]] std::uint64_t freed() const noexcept { return freed_; }

private:
    void take(detail::Filler& filler, SlotIndex i, SlotWord seen) {
        if (batch_ == 0) {
            freed_ += filler.put(i, seen) ? 1U : 0U;
        } else if (const auto mine = detail::hold_slot(pool_, i, seen)) {
            held_.push_back({i, *mine});
        }
    }

    Pool pool_;
    Wanted wanted_;
    std::size_t batch_;
    detail::SlotWalk walk_;
    std::vector<HeldSlot> held_;
    std::uint64_t freed_ = 0;
};

namespace detail {

/// Does the whole of `pass` at once; `erase(SlotIndex)` for each slot it holds, or nullptr.
template <typename Pass, typename Erase>
void finish_pass(Pass& pass, Erase& erase) {
    constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
    for (PassStep step = pass.step(kAll); step != PassStep::kDone; step = pass.step(kAll)) {
        if constexpr (!std::is_same_v<std::decay_t<Erase>, std::nullptr_t>) {
            for (const HeldSlot& slot : pass.held()) {
                erase(slot.index);
            }
        }
        pass.free_held();
    }
}

/// How many slots a pass may hold that is done at once.
template <typename Erase>
constexpr std::size_t kBatch = std::is_same_v<std::decay_t<Erase>, std::nullptr_t> ? 0 : 256;

}  // namespace detail

}  // namespace mempool::shm
