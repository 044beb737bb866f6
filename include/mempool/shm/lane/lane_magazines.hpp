// The two magazines a lane works with: exchanged with the depot, revoked by thieves, shared.
//
// The base of Lane. The shared half is a LaneRecord and the magazines themselves; this object is
// the private half: pointers to them, so that the fast path follows no index. All that touches a
// magazine happens in a busy section; see steal.hpp for why that needs no fence.
#pragma once

#include <atomic>
#include <cstdint>

#include "mempool/shm/depot/depot.hpp"
#include "mempool/shm/depot/membarrier.hpp"
#include "mempool/shm/lane/exhaustion.hpp"
#include "mempool/shm/lane/lane_table.hpp"
#include "mempool/shm/lane/pulse.hpp"
#include "mempool/shm/lane/steal.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// Whose turn it is when slots are short.
enum class Turn : std::uint8_t {
    kUsual,    ///< leaves what was promised to those who have waited for long
    kPatient,  ///< one of these
};

/// Longest time for which Live::promised_until may bind anybody.
constexpr std::uint64_t kLongestPromiseNs = 20'000'000;

/// Not thread-safe: one caller at a time, and never after a fork.
class LaneMagazines {
public:
    /// Equips the lane with its two magazines; false if the depot has none to give, or the client
    /// was ended. The lane's word must already say OWNED by this client. Registers the process for
    /// barriers.
    bool open() noexcept {
        record_->busy.store(kAtWork, std::memory_order_relaxed);
        // A thief's bit for a former owner may be lost: the versions it read are gone too. So may
        // kShutOut for this client: then E1 finds it ended. The daemon raises the epoch (E0),
        // fences, looks for lanes of the client, and sets the bit (E2). If E1 misses E0, our fence
        // came before the daemon's: it sees our claim (L1), and its bit comes after our store.
        fenced_ = !register_for_barriers();
        record_->revoked.store(fenced_ ? kFenced : 0U, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const bool equipped = !refuses() && equip(kNoMagazine, kNoMagazine);
        leave();
        return equipped;
    }

    /// Gives both magazines to the depot; the lane's word is the caller's to free afterwards.
    /// False if the client was ended: then the word must stay as it is.
    bool close() noexcept {
        record_->busy.store(kAtWork, std::memory_order_relaxed);
        withstand_thieves();
        if (refuses()) {
            leave();
            return false;
        }
        std::uint64_t slots = 0;
        for (const MagazineId m : {loaded_id_, previous_id_}) {
            if (keep(m)) {
                slots += depot_.count(m);
                depot_.give(m);
            }
        }
        forget();
        leave();
        depot_.wake(slots);
        return true;
    }

    /// Whether the attachment that this lane belongs to was ended (end_client.hpp): then the lane
    /// refuses everything, from its next slow way on.
    /// Pairs:  E1 acquire <- E0 release in raise_epoch().
    [[nodiscard]] bool is_ended() const noexcept {
        const ClientRecord& client = depot_.pool().client(SlotWord{held_}.client());
        return ended_ || client.epoch.load(std::memory_order_acquire) != epoch_;  // E1
    }

    /// Gives what the lane has cached to the depot, for those who wait, and wakes one a slot. Now
    /// and then feels whether those who wait are at work: else each put would share for nobody.
    [[gnu::noinline, gnu::cold]] void share() noexcept {
        std::uint64_t slots = 0;
        if (enter()) {
            slots += share_loaded();
            if (depot_.count(previous_id_) != 0) {
                load(previous_id_, loaded_id_);
                slots += share_loaded();
            }
        }
        leave();
        depot_.wake(slots);
        take_out_the_stopped(depot_.pool());
    }

    /// Whether somebody sleeps in get_for(). To be asked after a put, outside the busy section.
    /// Linearizes: W1.
    /// Pairs:  W1 against W2, W3 of one who begins to wait: see docs/concurrency.md, Waiting.
    [[nodiscard]] bool is_waited_for() const noexcept {
        return live_->waiters.load(std::memory_order_relaxed) != 0;  // W1
    }

    [[nodiscard]] LaneId id() const noexcept { return id_; }
    [[nodiscard]] LaneRecord& record() const noexcept { return *record_; }
    [[nodiscard]] Depot& depot() noexcept { return depot_; }
    [[nodiscard]] MagazineId loaded() const noexcept { return loaded_id_; }

protected:
    LaneMagazines(const Pool& pool, LaneId id, ClientId client, std::uint32_t epoch) noexcept
        : loaded_(&pool.magazine(kNoMagazine)),
          live_(&pool.live()),
          record_(&pool.lane(id)),
          records_(&pool.record(SlotIndex{0})),
          held_(SlotWord::held(Generation{0}, client).bits),
          id_(id),
          epoch_(epoch),
          depot_(pool, raw(id), &record_->busy) {}

    /// Only this lane's thread writes its counters: no locked instruction is needed. Who sees the
    /// new count sees what came before it (exhaustion.hpp).
    static void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) noexcept {
#if defined(__x86_64__)
        // One instruction, where compilers make three of an atomic's load and its store. Both of
        // the dialects in which a program that includes this may be assembled.
        asm("add{q %1, %0| qword ptr %0, %1}" : "+m"(counter) : "er"(by) : "cc");
#else
        counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_release);
#endif
    }

    // Busy sections.

    /// Begins a busy section, whatever thieves did; false if the client was ended, or the lane has
    /// no magazines and none are to be had. To be ended by leave() in either case.
    [[nodiscard]] bool enter() noexcept {
        return (try_enter(*record_) || recover()) &&
               (loaded_id_ != kNoMagazine || (!ended_ && equip(kNoMagazine, kNoMagazine)));
    }

    void leave() noexcept {
        leave_unfenced(*record_);
        if (fenced_) {
            std::atomic_thread_fence(std::memory_order_seq_cst);  // before W1
        }
    }

    /// The common case of enter(); false if a thief looked at the lane, or it fences itself: then
    /// nothing may be done, and enter() must follow. `record` is the lane's.
    [[nodiscard, gnu::always_inline]] static bool try_enter(LaneRecord& record) noexcept {
        record.busy.store(kAtWork, std::memory_order_relaxed);       // B1
        std::atomic_signal_fence(std::memory_order_seq_cst);         // B1 before B2, in the code
        return record.revoked.load(std::memory_order_relaxed) == 0;  // B2
    }
    /// The end of what try_enter() began.
    [[gnu::always_inline]] static void leave_unfenced(LaneRecord& record) noexcept {
        record.busy.store(kIdle, std::memory_order_release);  // B3
        std::atomic_signal_fence(std::memory_order_seq_cst);  // B3 before W1, in the code
    }

    // What follows is for callers in a busy section.

    /// The magazine in use has no slots left: takes the lane's other one, else one from the depot,
    /// else one from another lane. kNothing: there are none, now. The lane counts as searching
    /// until it has found something.
    enum class Refill : std::uint8_t { kDone, kNothing, kOthersBusy };
    [[nodiscard, gnu::noinline]] Refill refill(Turn turn) noexcept {
        if (depot_.count(previous_id_) != 0) {
            load(previous_id_, loaded_id_);
            return Refill::kDone;
        }
        if (turn == Turn::kUsual && is_promised()) {
            return Refill::kNothing;
        }
        record_->busy.store(kSearching, std::memory_order_release);
        MagazineId fresh = depot_.claim_full(id_);
        if (fresh == kNoMagazine) {
            const Loot loot = search(depot_, id_);
            if (loot.magazine == kNoMagazine) {
                return loot.others_busy ? Refill::kOthersBusy : Refill::kNothing;
            }
            fresh = loot.magazine;
            bump(record_->steals, loot.stolen ? 1 : 0);
        }
        exchange(fresh);
        prefetch_words();
        return Refill::kDone;
    }

    /// The magazine in use is full: takes the lane's other one, else one with room from the depot.
    [[nodiscard, gnu::noinline]] bool make_room() noexcept {
        if (depot_.count(previous_id_) < depot_.pool().magazine_capacity()) {
            load(previous_id_, loaded_id_);
            return true;
        }
        const MagazineId fresh = depot_.claim_room(id_);
        if (fresh == kNoMagazine) {
            return false;
        }
        exchange(fresh);
        return true;
    }

    // What the fast paths read, together: it never changes but when a magazine is exchanged.
    // Without magazines the capacity is 0, so that no operation finds a slot or room.
    MagazineHead* loaded_;
    const Live* live_;
    LaneRecord* record_;
    SlotRecord* records_;
    std::uint64_t held_;          // low half of a word HELD by this client
    std::uint64_t get_step_ = 0;  // what a get adds to a word: FREE(loaded) becomes HELD, one on
    std::uint64_t put_step_ = 0;  // what a put takes from it: HELD becomes FREE(loaded)
    std::uint32_t free_ = 0;      // low half of a word FREE in the loaded magazine
    std::uint32_t capacity_ = 0;
    bool fenced_ = false;
    bool ended_ = false;  // E1 said so once: never mind what the record says later

private:
    // E1, in a busy section. Whoever finds itself ended forgets its magazines before it says so:
    // from here on the daemon may take them, whatever becomes of the bits in `revoked`.
    [[gnu::noinline, gnu::cold]] bool refuses() noexcept {
        if (!is_ended()) {
            return false;
        }
        ended_ = true;
        forget();
        record_->revoked.fetch_or(kShutOut, std::memory_order_relaxed);  // open() may have lost it
        return true;
    }

    // B2 found `revoked`. True if the lane has two magazines again.
    [[gnu::noinline, gnu::cold]] bool recover() noexcept {
        // If the lane fences itself, this is the fence between its B1 and B2.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if ((record_->revoked.load(std::memory_order_relaxed) & (kRevoked | kShutOut)) == 0) {
            return true;
        }
        withstand_thieves();
        if (refuses()) {  // after V2, so that who sees the bit sees the epoch; before V3
            return false;
        }
        const bool first = keep(loaded_id_);
        const bool second = keep(previous_id_);
        return (first && second) ||
               equip(first ? loaded_id_ : kNoMagazine, second ? previous_id_ : kNoMagazine);
    }

    // V1, V2: from here on a thief's look at our words comes with a `revoked` that we will see. V1
    // leaves kShutOut as it is: a lane that has it never gets the fast way again.
    void withstand_thieves() noexcept {
        record_->revoked.fetch_and(~kRevoked, std::memory_order_relaxed);  // V1
        std::atomic_thread_fence(std::memory_order_seq_cst);               // V2
    }

    // V3: what thieves read of `m` is out of date; false if one of them was faster.
    [[nodiscard]] bool keep(MagazineId m) noexcept {
        if (m == kNoMagazine) {
            return false;
        }
        const MagazineWord seen{depot_.pool().magazine(m).word.load(std::memory_order_relaxed)};
        return seen.state() == MagazineState::kOwned && seen.lane() == id_ &&
               depot_.try_claim(m, seen, id_);  // V3
    }

    // Claims what is missing of two magazines.
    bool equip(MagazineId loaded, MagazineId previous) noexcept {
        if (loaded == kNoMagazine) {
            loaded = depot_.claim_room(id_);
        }
        if (previous == kNoMagazine) {
            previous = depot_.claim_room(id_);
        }
        if (loaded != kNoMagazine && previous != kNoMagazine) {
            load(loaded, previous);
            return true;
        }
        for (const MagazineId m : {loaded, previous}) {
            if (m != kNoMagazine) {
                depot_.give(m);
            }
        }
        forget();
        return false;
    }

    // The fresh magazine comes into use, the one less in use goes to the depot.
    void exchange(MagazineId fresh) noexcept {
        const MagazineId given = previous_id_;
        load(fresh, loaded_id_);
        depot_.give(given);
    }

    // Gives the loaded magazine to the depot if it has slots; how many.
    std::uint32_t share_loaded() noexcept {
        const std::uint32_t slots = depot_.count(loaded_id_);
        const MagazineId fresh = slots != 0 ? depot_.claim_room(id_) : kNoMagazine;
        if (fresh == kNoMagazine) {
            return 0;
        }
        const MagazineId given = loaded_id_;
        load(fresh, previous_id_);
        depot_.give(given);
        return slots;
    }

    [[nodiscard]] bool is_promised() const noexcept {
        if (!is_waited_for()) {
            return false;
        }
        const std::uint64_t left =
            live_->promised_until.load(std::memory_order_relaxed) - monotonic_ns();
        return left - 1 < kLongestPromiseNs;  // neither past nor foreign bytes
    }

    void load(MagazineId loaded, MagazineId previous) noexcept {
        const Pool& pool = depot_.pool();
        loaded_id_ = loaded;
        previous_id_ = previous;
        loaded_ = &pool.magazine(loaded);
        capacity_ = pool.magazine_capacity();
        free_ = static_cast<std::uint32_t>(SlotWord::free(Generation{0}, loaded).bits);
        put_step_ = held_ - free_;
        get_step_ = put_step_ + SlotWord::free(Generation{1}, kNoMagazine).bits -
                    SlotWord::free(Generation{0}, kNoMagazine).bits;
        record_->loaded.store(raw(loaded), std::memory_order_release);
        record_->previous.store(raw(previous), std::memory_order_release);
    }

    void forget() noexcept {
        loaded_ = &depot_.pool().magazine(kNoMagazine);
        loaded_id_ = previous_id_ = kNoMagazine;
        capacity_ = 0;
        record_->loaded.store(raw(kNoMagazine), std::memory_order_relaxed);
        record_->previous.store(raw(kNoMagazine), std::memory_order_relaxed);
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

    MagazineId loaded_id_ = kNoMagazine;
    MagazineId previous_id_ = kNoMagazine;
    LaneId id_;
    std::uint32_t epoch_;  // of the client's attachment

protected:
    Depot depot_;
};

}  // namespace mempool::shm
