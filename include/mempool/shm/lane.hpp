// A lane at work: get, put, adopt and detach for one thread at a time.
//
// Made by libmempool for each thread that uses a client, and by the daemon for itself. The shared
// half is a LaneRecord and the two magazines it owns; this object is the private half: pointers to
// them, so that the fast path follows no index. Never makes a system call on the fast path.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "mempool/shm/depot.hpp"
#include "mempool/shm/layout.hpp"
#include "mempool/shm/pool.hpp"

namespace mempool::shm {

enum class GetResult : std::uint8_t {
    kOk,
    kExhausted,  ///< the depot has no slots, and this lane neither
    kUnmapped,   ///< the slot next in line lies in a segment this process has not mapped yet
};

enum class PutResult : std::uint8_t {
    kOk,
    kUnmapped,    ///< the index lies in a segment this process has not mapped yet
    kOutOfRange,  ///< no such slot in this pool
    kStale,       ///< the slot was returned, or got again, since the handle was made
    kNoRoom,      ///< no magazine has room: the pool's magazines were overwritten by somebody
};

/// A slot as a lane deals with it.
struct Taken {
    SlotIndex index{};
    Generation generation{};
};

/// A slot that the lane's client holds, with the word that says so.
struct Held {
    SlotIndex index{};
    SlotWord word;

    [[nodiscard]] Taken taken() const noexcept { return {index, word.generation()}; }
};

/// One thread's way into a pool. Not thread-safe: one caller at a time, and never after a fork.
class Lane {
public:
    Lane(const Pool& pool, LaneId id, ClientId client) noexcept
        : words_(&pool.word(SlotIndex{0})),
          times_(&pool.time(SlotIndex{0})),
          live_(&pool.live()),
          record_(&pool.lane(id)),
          held_(SlotWord::held(Generation{0}, client).bits),
          capacity_(pool.magazine_capacity()),
          id_(id),
          client_(client),
          depot_(pool) {}

    /// Equips the lane with its two magazines; false if the depot has none to give.
    /// The lane's word must already say OWNED by this client.
    bool open() noexcept {
        const MagazineId first = depot_.claim_room(id_);
        if (first == kNoMagazine) {
            return false;
        }
        const MagazineId second = depot_.claim_room(id_);
        if (second == kNoMagazine) {
            depot_.give(first);
            return false;
        }
        load(first, second);
        return true;
    }

    /// Gives both magazines to the depot. The lane's word is the caller's to free afterwards.
    void close() noexcept {
        if (loaded_id_ != kNoMagazine) {
            const MagazineId first = std::exchange(loaded_id_, kNoMagazine);
            const MagazineId second = std::exchange(previous_id_, kNoMagazine);
            loaded_ = nullptr;
            depot_.give(first);
            depot_.give(second);
        }
    }

    /// Gets a slot with an index below `limit` (what this process has mapped).
    /// Linearizes: C1.
    /// Pairs:  C0 acquire <- F1 release in put(): the last holder's stores happen-before ours.
    ///         C1 release -> A0 acquire in adopt(): ours happen-before the next holder's.
    /// ABA:    while the lane owns the magazine nobody else changes a word FREE(m) (I3), so C1 is a
    ///         plain store; the generation grows (I2), so every older handle becomes stale.
    /// Crash:  before C1 nothing changed; after it the word names the client, so reclaim finds the
    ///         slot; the item left above it no longer matches its word and is dropped.
    [[nodiscard]] GetResult get(std::uint32_t limit, Taken& taken) noexcept {
        Held held;
        while (!try_get(limit, held)) {
            const std::uint32_t top = loaded_->count.load(std::memory_order_relaxed) - 1;
            if (top >= capacity_) {
                if (top != ~0U) {  // foreign bytes: judge the items one by one
                    loaded_->count.store(capacity_, std::memory_order_relaxed);
                } else if (!refill()) {
                    return GetResult::kExhausted;
                }
                continue;
            }
            const std::uint32_t i = Pool::items(*loaded_)[top].load(std::memory_order_relaxed);
            if (i >= limit && i < depot_.pool().index_limit()) {
                return GetResult::kUnmapped;
            }
            // A stale item, or no such slot: drop it.
            loaded_->count.store(top, std::memory_order_relaxed);
        }
        taken = held.taken();
        return GetResult::kOk;
    }

    /// The common case of get(), with its C0 and C1: a sound item on top of the loaded magazine.
    /// Else false, and nothing changed: call get(). Calls nothing, so it can be all of a leaf
    /// function.
    [[nodiscard, gnu::always_inline]] bool try_get(std::uint32_t limit, Held& held) noexcept {
        // A copy: the compiler can't know that the stores below leave loaded_ as it is.
        MagazineHead& magazine = *loaded_;
        const std::uint32_t top = magazine.count.load(std::memory_order_relaxed) - 1;
        if (top >= capacity_) [[unlikely]] {
            return false;
        }
        const SlotIndex i{Pool::items(magazine)[top].load(std::memory_order_relaxed)};
        if (raw(i) >= limit) [[unlikely]] {
            return false;
        }
        std::atomic<std::uint64_t>& word = words_[raw(i)];
        const SlotWord seen{word.load(std::memory_order_acquire)};  // C0
        if (static_cast<std::uint32_t>(seen.bits) != free_) [[unlikely]] {
            return false;
        }
        held = {i, SlotWord{seen.bits + get_step_}};
        word.store(held.word.bits, std::memory_order_release);  // C1
        magazine.count.store(top, std::memory_order_release);
        stamp_time(times_[raw(i)], live_->now.load(std::memory_order_relaxed));
        bump(record_->gets);
        return true;
    }

    /// Returns slot `t.index`, whoever holds it, if its generation still is `t.generation`.
    /// Linearizes: F1.
    /// Pairs:  F1 release -> C0 acquire in get(): our stores happen-before the next holder's.
    ///         F0 is relaxed: a stale word only makes F1 fail.
    /// ABA:    F1 names the generation; a second put of the same slot finds FREE and is refused, a
    ///         put of an older handle finds a later generation.
    /// Crash:  before F1 the slot is still held; between F1 and the count the slot is FREE(m) and
    ///         stands in items[count], where reclaim looks (I1).
    [[nodiscard]] PutResult put(Taken t, std::uint32_t limit) noexcept {
        if (raw(t.index) >= limit) [[unlikely]] {
            return refuse(out_of_reach(t.index));
        }
        return put_with(t, [this, t](std::atomic<std::uint64_t>& word, SlotWord seen) {
            do {
                const bool out =
                    seen.state() == SlotState::kHeld || seen.state() == SlotState::kDetached;
                if (!out || seen.generation() != t.generation) [[unlikely]] {
                    return false;
                }
            } while (!word.compare_exchange_weak(seen.bits, freed(t),  // F1
                                                 std::memory_order_release,
                                                 std::memory_order_relaxed));
            return true;
        });
    }

    /// Returns a slot that this client got and whose handle no other thread or process was given:
    /// nobody else can name it, so F2, a plain store, does for F1 and saves most of a put's time.
    /// What breaks the promise, a handle guessed and used by another between F0 and F2, could see
    /// the slot handed out twice; that takes the right 32-bit generation in that very moment.
    /// Linearizes: F2.
    /// Pairs:  F2 release -> C0 acquire in get(), as F1.
    /// ABA:    the word names this client and the generation; only its dead are rewritten by
    /// others. Crash:  as put(), with F2 for F1.
    [[nodiscard]] PutResult put_private(Taken t) noexcept {
        return put_with(t, [this, t](std::atomic<std::uint64_t>& word, SlotWord seen) {
            if (seen != held(t).word) [[unlikely]] {
                return false;
            }
            word.store(freed(t), std::memory_order_release);  // F2
            return true;
        });
    }

    /// The common case of put_private(), with its F2: room in the loaded magazine and nobody
    /// waiting. Else false, and nothing changed: call put_private(). Calls nothing.
    [[nodiscard, gnu::always_inline]] bool try_put_private(Held t) noexcept {
        MagazineHead& magazine = *loaded_;
        const std::uint32_t count = magazine.count.load(std::memory_order_relaxed);
        std::atomic<std::uint64_t>& word = words_[raw(t.index)];
        if (count >= capacity_ || word.load(std::memory_order_relaxed) != t.word.bits ||
            live_->waiters.load(std::memory_order_relaxed) != 0) [[unlikely]] {
            return false;
        }
        Pool::items(magazine)[count].store(raw(t.index), std::memory_order_relaxed);
        word.store(t.word.bits - put_step_, std::memory_order_release);  // F2
        magazine.count.store(count + 1, std::memory_order_release);
        bump(record_->puts);
        return true;
    }

    /// Makes this client the holder of a slot that is detached or held by another.
    /// Linearizes: A1.
    /// Pairs:  A0 acquire <- C1/D1 release: the sender's stores happen-before ours.
    /// ABA:    A1 names the generation, which grows at every get and every reclaim (I2).
    /// Crash:  before A1 the slot is its former holder's; after A1 it is this client's to reclaim.
    [[nodiscard]] PutResult adopt(Taken t, std::uint32_t limit) noexcept {
        return rewrite(t, limit, SlotWord::held(t.generation, client_), true);
    }

    /// Leaves a slot this client holds to whoever adopts it: it outlives this process.
    /// Linearizes: D1, the same step as A1.
    /// Pairs:  D1 release -> A0 acquire: what we wrote is seen by who adopts.
    /// ABA:    as adopt().
    /// Crash:  before D1 the slot is this client's to reclaim; after D1 it is nobody's, listed by
    /// age.
    [[nodiscard]] PutResult detach(Taken t, std::uint32_t limit) noexcept {
        return rewrite(t, limit, SlotWord::detached(t.generation), false);
    }

    /// Gives the loaded magazine to the depot if it has slots, for those who wait.
    [[gnu::noinline, gnu::cold]] void share() noexcept {
        if (depot_.count(loaded_id_) == 0) {
            return;
        }
        const MagazineId fresh = depot_.claim_room(id_);
        if (fresh != kNoMagazine) {
            const MagazineId given = loaded_id_;
            load(fresh, previous_id_);
            depot_.give(given);
        }
    }

    /// `t` as it is while this lane's client holds it.
    [[nodiscard]] Held held(Taken t) const noexcept {
        return {t.index, SlotWord::held(t.generation, client_)};
    }
    /// Live::options.
    [[nodiscard]] std::uint32_t options() const noexcept {
        return live_->options.load(std::memory_order_relaxed);
    }
    [[nodiscard]] LaneId id() const noexcept { return id_; }
    [[nodiscard]] LaneRecord& record() const noexcept { return *record_; }
    [[nodiscard]] Depot& depot() noexcept { return depot_; }
    [[nodiscard]] MagazineId loaded() const noexcept { return loaded_id_; }

private:
    // Only this lane's thread writes its counters: no read-modify-write is needed.
    static void bump(std::atomic<std::uint64_t>& counter) noexcept {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

    [[gnu::noinline, gnu::cold]] PutResult refuse(PutResult why) noexcept {
        bump(record_->refused);
        return why;
    }

    [[nodiscard]] PutResult out_of_reach(SlotIndex i) const noexcept {
        return raw(i) < depot_.pool().index_limit() ? PutResult::kUnmapped : PutResult::kOutOfRange;
    }

    // Written only when it changed, so that the line can stay shared between processes.
    static void stamp_time(std::atomic<std::uint32_t>& time, std::uint32_t now) noexcept {
        if (time.load(std::memory_order_relaxed) != now) {
            time.store(now, std::memory_order_relaxed);
        }
    }

    [[nodiscard]] std::uint64_t freed(Taken t) const noexcept {
        return (std::uint64_t{raw(t.generation)} << 32U) | free_;
    }

    // Puts a slot on top of the loaded magazine: the item, the word by `free_word`, the count.
    template <typename FreeWord>
    [[gnu::always_inline]] PutResult put_with(Taken t, FreeWord&& free_word) noexcept {
        std::uint32_t count = loaded_->count.load(std::memory_order_relaxed);
        if (count >= capacity_) [[unlikely]] {
            if (!make_room()) {
                return PutResult::kNoRoom;
            }
            count = depot_.count(loaded_id_);
        }
        std::atomic<std::uint64_t>& word = words_[raw(t.index)];
        Pool::items(*loaded_)[count].store(raw(t.index), std::memory_order_relaxed);
        if (!free_word(word, SlotWord{word.load(std::memory_order_relaxed)})) [[unlikely]] {  // F0
            return refuse(PutResult::kStale);
        }
        loaded_->count.store(count + 1, std::memory_order_release);
        bump(record_->puts);
        if (live_->waiters.load(std::memory_order_relaxed) != 0) [[unlikely]] {
            share();
        }
        return PutResult::kOk;
    }

    PutResult rewrite(Taken t, std::uint32_t limit, SlotWord wanted, bool from_any) noexcept {
        if (raw(t.index) >= limit) {
            return refuse(out_of_reach(t.index));
        }
        std::atomic<std::uint64_t>& word = depot_.pool().word(t.index);
        SlotWord seen{word.load(std::memory_order_relaxed)};
        do {
            const bool out =
                seen.is_held_by(client_) || (from_any && (seen.state() == SlotState::kHeld ||
                                                          seen.state() == SlotState::kDetached));
            if (!out || seen.generation() != t.generation) {
                return refuse(PutResult::kStale);
            }
            // Before D1: who sees the slot detached sees since when.
            stamp_time(times_[raw(t.index)], live_->now.load(std::memory_order_relaxed));
        } while (!word.compare_exchange_weak(seen.bits, wanted.bits,     // A1, D1
                                             std::memory_order_acq_rel,  // A0 is A1's own load
                                             std::memory_order_relaxed));
        return PutResult::kOk;
    }

    // The magazine in use has no slots left: take the one beside it, else one from the depot.
    [[gnu::noinline]] bool refill() noexcept {
        if (depot_.count(previous_id_) != 0) {
            load(previous_id_, loaded_id_);
            return true;
        }
        const MagazineId fresh = depot_.claim_full(id_);
        if (fresh == kNoMagazine) {
            bump(record_->exhausted);
            return false;
        }
        const MagazineId given = previous_id_;
        load(fresh, loaded_id_);
        depot_.give(given);
        prefetch_words();
        return true;
    }

    // The magazine in use is full: take the one beside it, else one with room from the depot.
    [[gnu::noinline]] bool make_room() noexcept {
        if (depot_.count(previous_id_) < depot_.pool().magazine_capacity()) {
            load(previous_id_, loaded_id_);
            return true;
        }
        const MagazineId fresh = depot_.claim_room(id_);
        if (fresh == kNoMagazine) {
            return false;
        }
        const MagazineId given = previous_id_;
        load(fresh, loaded_id_);
        depot_.give(given);
        return true;
    }

    void load(MagazineId loaded, MagazineId previous) noexcept {
        const Pool& pool = depot_.pool();
        loaded_id_ = loaded;
        previous_id_ = previous;
        loaded_ = &pool.magazine(loaded);
        free_ = static_cast<std::uint32_t>(SlotWord::free(Generation{0}, loaded).bits);
        put_step_ = held_ - free_;
        get_step_ = put_step_ + SlotWord::free(Generation{1}, kNoMagazine).bits -
                    SlotWord::free(Generation{0}, kNoMagazine).bits;
        record_->loaded.store(raw(loaded), std::memory_order_relaxed);
        record_->previous.store(raw(previous), std::memory_order_relaxed);
    }

    void prefetch_words() const noexcept {
        const Pool& pool = depot_.pool();
        const std::uint32_t count = depot_.count(loaded_id_);
        for (std::uint32_t k = 0; k < count; ++k) {
            const std::uint32_t i = Pool::items(*loaded_)[k].load(std::memory_order_relaxed);
            if (i < pool.geometry().index_capacity) {
                __builtin_prefetch(&pool.word(SlotIndex{i}), 1);
            }
        }
    }

    // What the fast paths read, together: it never changes but when a magazine is exchanged.
    MagazineHead* loaded_ = nullptr;
    std::atomic<std::uint64_t>* words_;
    std::atomic<std::uint32_t>* times_;
    const Live* live_;
    LaneRecord* record_;
    std::uint64_t held_;          // low half of a word HELD by this client
    std::uint64_t get_step_ = 0;  // what a get adds to a word: FREE(loaded) becomes HELD, one on
    std::uint64_t put_step_ = 0;  // what a put takes from it: HELD becomes FREE(loaded)
    std::uint32_t free_ = 0;      // low half of a word FREE in the loaded magazine
    std::uint32_t capacity_;
    MagazineId loaded_id_ = kNoMagazine;
    MagazineId previous_id_ = kNoMagazine;
    LaneId id_;
    ClientId client_;
    Depot depot_;
};

/// Claims lane `id` for `client`; false if it is another's.
/// Linearizes: L1.
/// Pairs:  L1 acquire <- L2 release: the former owner's counters are ours to go on from.
/// ABA:    the word's version grows at every change.
/// Crash:  before L1 nothing changed; after it the word names the client, so reclaim finds the
/// lane.
inline bool try_claim_lane(const Pool& pool, LaneId id, ClientId client) noexcept {
    std::atomic<std::uint64_t>& word = pool.lane(id).word;
    LaneWord seen{word.load(std::memory_order_relaxed)};
    return seen.state() == LaneState::kFree &&
           word.compare_exchange_strong(  // L1
               seen.bits, LaneWord::make(seen.version() + 1U, LaneState::kOwned, client).bits,
               std::memory_order_acquire, std::memory_order_relaxed);
}

/// Frees lane `id`, which the caller owns and whose magazines it has given back.
/// Linearizes: L2. Pairs, ABA: see try_claim_lane(). Crash: before L2 the lane is the dead
/// client's.
inline void free_lane(const Pool& pool, LaneId id) noexcept {
    LaneRecord& lane = pool.lane(id);
    const LaneWord seen{lane.word.load(std::memory_order_relaxed)};
    lane.loaded.store(raw(kNoMagazine), std::memory_order_relaxed);
    lane.previous.store(raw(kNoMagazine), std::memory_order_relaxed);
    lane.waiting.store(0, std::memory_order_relaxed);
    lane.word.store(LaneWord::make(seen.version() + 1U, LaneState::kFree).bits,  // L2
                    std::memory_order_release);
}

}  // namespace mempool::shm
