// A lane at work: get, put, show, adopt and detach for one thread at a time.
//
// Made by libmempool for each thread that uses a client, and by the daemon for itself. Never makes
// a system call on the fast path. Every change of a magazine stands in a busy section, so a thief
// sees it whole or not at all (steal.hpp).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "mempool/shm/lane/lane_magazines.hpp"

namespace mempool::shm {

enum class GetResult : std::uint8_t {
    kOk,
    kExhausted,  ///< neither the depot nor any idle lane has slots
    kUnmapped,   ///< the slot next in line lies in a segment this process has not mapped yet
    kBusy,       ///< as kExhausted, but others were in mid-operation, again and again
    kEnded,      ///< the client was ended: it may not work in this pool any more
};

enum class PutResult : std::uint8_t {
    kOk,
    kUnmapped,    ///< the index lies in a segment this process has not mapped yet
    kOutOfRange,  ///< no such slot in this pool
    kStale,       ///< returned, adopted or got again since the handle was made, or never given out
    kNoRoom,      ///< no magazine has room: the pool's magazines were overwritten by somebody
    kEnded,       ///< the client was ended: it may not work in this pool any more
};

/// A slot as a lane deals with it.
struct Taken {
    SlotIndex index{};
    Generation generation{};
};

/// A slot that the lane's client holds, with the word that says so.
struct Held {
    SlotWord word;
    SlotIndex index{};

    [[nodiscard]] constexpr Taken taken() const noexcept { return {index, word.generation()}; }
};

/// One thread's way into a pool. Not thread-safe: one caller at a time, and never after a fork.
class Lane : public LaneMagazines {
public:
    /// `epoch`: of the client's attachment, as the daemon told it.
    Lane(const Pool& pool, LaneId id, ClientId client, std::uint32_t epoch) noexcept
        : LaneMagazines(pool, id, client, epoch), client_(client) {}

    /// Gets a slot with an index below `limit` (what this process has mapped).
    /// Linearizes: C1.
    /// Pairs:  C0 acquire <- F1 release in put(): the last holder's stores happen-before ours.
    ///         C1 release -> A0 acquire in adopt(): ours happen-before the next holder's.
    /// ABA:    while the lane owns the magazine nobody else changes a word FREE(m) (I3), so C1 is a
    ///         plain store; the generation grows (I2), so every older handle becomes stale.
    /// Crash:  before C1 nothing changed; after it the word names the client, so reclaim finds the
    ///         slot; the item left above it no longer matches its word and is dropped.
    [[nodiscard]] GetResult get(std::uint32_t limit, Taken& taken,
                                Turn turn = Turn::kUsual) noexcept {
        const auto keep = [&taken](Held held) { taken = held.taken(); };
        std::uint32_t got = 0;
        return get_bulk(limit, 1, keep, got, turn);
    }

    /// Gets up to `wanted` slots, as many as possible in one busy section each, and calls
    /// `sink(Held)` for each; `got` is how many. kOk only if it got all. As get().
    /// Crash:  as get(): the count of a magazine is lowered once, behind the words of all that were
    ///         taken from it.
    template <typename Sink>
    [[nodiscard]] GetResult get_bulk(std::uint32_t limit, std::uint32_t wanted, Sink&& sink,
                                     std::uint32_t& got, Turn turn = Turn::kUsual) noexcept {
        got = 0;
        GetResult result = GetResult::kExhausted;
        if (enter()) {
            result = get_entered(limit, wanted, sink, got, turn);
        } else if (ended_) {
            result = GetResult::kEnded;
        }
        leave();
        if (result == GetResult::kExhausted || result == GetResult::kBusy) {
            bump(record_->exhausted);
        }
        bump(record_->gets, got);
        return result;
    }

    /// The common case of get(): nobody looked at the lane, and a sound item lies on top of the
    /// loaded magazine. Else false, and nothing changed: call get(). Calls nothing, so it can be
    /// all of a leaf function. `options` is Live::options at that time.
    [[nodiscard, gnu::always_inline]] bool try_get(std::uint32_t limit, Held& held,
                                                   std::uint32_t& options) noexcept {
        // Copies: the compiler can't know that the stores below leave the members as they are. What
        // is read once is not copied, or there are more than registers.
        LaneRecord& record = *record_;
        MagazineHead& magazine = *loaded_;
        if (try_enter(record)) [[likely]] {
            // Of 64 bits, as the addresses made of them: else each is widened by itself.
            const std::uint64_t top = magazine.count.load(std::memory_order_relaxed) - 1U;
            if (top < capacity_) [[likely]] {
                const std::uint64_t i = Pool::items(magazine)[top].load(std::memory_order_relaxed);
                SlotRecord& slot = records_[i];
                if (i < limit && take(slot.word, free_, get_step_, held)) [[likely]] {
                    const Live& live = *live_;
                    stamp(slot.time, live.now.load(std::memory_order_relaxed));
                    options = live.options.load(std::memory_order_relaxed);
                    held.index = SlotIndex{static_cast<std::uint32_t>(i)};
                    magazine.count.store(static_cast<std::uint32_t>(top),
                                         std::memory_order_release);
                    bump(record.gets);
                    leave_unfenced(record);
                    return true;
                }
            }
        }
        leave_unfenced(record);
        return false;
    }

    /// Returns a slot by its handle, whoever holds or detached it: it is SHOWN or DETACHED, and its
    /// generation still is `t.generation`. A slot whose handle nobody was given (HELD) is refused.
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
        return put_one(t.index, [this, t] {
            return free_by_handle(records_[raw(t.index)].word, t.generation, free_);
        });
    }

    /// Returns a slot that this client holds and has shown, if nobody took it by its handle: the
    /// word is SHOWN by this client, of `t.generation`. As put().
    [[nodiscard]] PutResult put_shown(Taken t) noexcept {
        return put_one(t.index, [this, t] {
            return free_shown(records_[raw(t.index)].word, shown(t.generation), free_);
        });
    }

    /// Returns a slot that this client holds and whose handle nobody was given: its word is HELD,
    /// which nobody else changes, so F2, a plain store, does for F1 and saves most of a put's time.
    /// A handle that was guessed changes nothing between F0 and F2: put() and adopt() take SHOWN
    /// and DETACHED only, and show(), which makes it SHOWN, is this client's own step.
    /// Linearizes: F2.
    /// Pairs:  F2 release -> C0 acquire in get(), as F1.
    /// ABA:    the word names this client and the generation; only its dead are rewritten by
    ///         others.
    /// Crash:  as put(), with F2 for F1.
    [[nodiscard]] PutResult put_private(Taken t) noexcept {
        return put_one(t.index, [this, t] {
            return free_private(records_[raw(t.index)].word, held(t).word, put_step_);
        });
    }

    /// The common case of put_private(): nobody looked at the lane, and there is room in the
    /// loaded magazine. Else false, and nothing changed: call put_private(). Calls nothing. If
    /// is_waited_for() afterwards, the caller must share().
    [[nodiscard, gnu::always_inline]] bool try_put_private(Held t) noexcept {
        LaneRecord& record = *record_;
        MagazineHead& magazine = *loaded_;
        if (try_enter(record)) [[likely]] {
            const std::uint32_t count = magazine.count.load(std::memory_order_relaxed);
            if (count < capacity_) [[likely]] {
                Pool::items(magazine)[count].store(raw(t.index), std::memory_order_relaxed);
                if (free_private(records_[raw(t.index)].word, t.word, put_step_)) [[likely]] {
                    magazine.count.store(count + 1, std::memory_order_release);
                    bump(record.puts);
                    leave_unfenced(record);
                    return true;
                }
            }
        }
        leave_unfenced(record);
        return false;
    }

    /// Returns slots until `source(S&)` is false, in one busy section for each magazine filled; how
    /// many were accepted. S is Held: as put_private(); or Taken: as put(), all below the limit.
    /// Crash:  as put(): a magazine's count is raised once, behind the words of all that were put
    ///         into it; those stand in its items, where reclaim looks beyond the count (I1).
    template <typename S, typename Source>
    std::uint32_t put_bulk(Source&& source) noexcept {
        std::uint32_t accepted = 0;
        std::uint32_t refused = 0;
        bool more = enter();
        while (more) {
            // Locals: see View.
            const std::uint32_t before = depot_.count(loaded());
            const std::uint32_t capacity = capacity_;
            const std::uint64_t put_step = put_step_;
            const std::uint32_t free = free_;
            SlotRecord* const records = records_;
            std::atomic<std::uint32_t>* const items = Pool::items(*loaded_);
            std::uint32_t count = before;
            S slot;
            while (count < capacity && (more = source(slot))) {
                items[count].store(raw(slot.index), std::memory_order_relaxed);
                bool freed = false;
                if constexpr (std::is_same_v<S, Held>) {
                    freed = free_private(records[raw(slot.index)].word, slot.word, put_step);
                } else {
                    freed = free_by_handle(records[raw(slot.index)].word, slot.generation, free);
                }
                count += freed ? 1U : 0U;
                refused += freed ? 0U : 1U;
            }
            loaded_->count.store(count, std::memory_order_release);
            accepted += count - before;
            more = more && make_room();
        }
        bump(record_->puts, accepted);
        leave();
        bump(record_->refused, refused);
        if (is_waited_for()) [[unlikely]] {
            share();
        }
        return accepted;
    }

    /// Gives out the handle of a slot that this client holds: from here on whoever has it may put
    /// or adopt the slot. kOk too if it was shown before; kStale if the slot was taken away. A
    /// plain store, as F2: nobody else changes a word HELD by this client (I7), and of one that
    /// was ended the daemon only while its lanes are in no busy section.
    /// Linearizes: H1.
    /// Pairs:  H1 release -> A0 acquire in adopt(): ours happen-before the next holder's. Whatever
    ///         carries the handle orders H1 before the receiver's load of the word.
    /// ABA:    the word names this client and the generation; see put_private().
    /// Crash:  the slot is this client's to reclaim, before H1 and after it.
    [[nodiscard]] PutResult show(Taken t) noexcept {
        PutResult result = PutResult::kNoRoom;
        if (enter()) {
            result = mark_shown(held(t)) ? PutResult::kOk : PutResult::kStale;
        } else if (ended_) {
            result = PutResult::kEnded;
        }
        leave();
        return result == PutResult::kOk ? result : refuse(result);
    }

    /// As show(), in one busy section: calls `work(show)`, and it calls `bool show(Held)` for each.
    /// Not called if the client was ended, or the lane has no magazines.
    template <typename Work>
    void show_bulk(Work&& work) noexcept {
        if (enter()) {
            work([this](Held t) { return mark_shown(t); });
        }
        leave();
    }

    /// The common case of show(); false: nothing changed, call show(). Calls nothing.
    [[nodiscard, gnu::always_inline]] bool try_show(Held t) noexcept {
        LaneRecord& record = *record_;
        const bool shown = try_enter(record) && mark_shown(t);
        leave_unfenced(record);
        return shown;
    }

    /// Makes this client the holder of a slot whose handle it was given: one that is detached, or
    /// shown by its holder. On kOk `t` is how this client names it: the generation has grown, so
    /// that the handle which led here is stale for everybody, its sender and a second receiver
    /// among them. The slot is HELD: nobody was given the new handle.
    /// Linearizes: A1.
    /// Pairs:  A0 acquire <- H1/D1 release: the sender's stores happen-before ours.
    /// ABA:    A1 names the generation, which grows at every get, adopt and reclaim (I2).
    /// Crash:  before A1 the slot is its former holder's; after A1 it is this client's to reclaim.
    [[nodiscard]] PutResult adopt(Taken& t, std::uint32_t limit) noexcept {
        return adopt_from(From::kGiver, t, limit);
    }

    /// As adopt(), of a slot that this client holds, HELD or SHOWN: from here on nobody else can
    /// name it.
    [[nodiscard]] PutResult renew(Taken& t, std::uint32_t limit) noexcept {
        return adopt_from(From::kSelf, t, limit);
    }

    /// Leaves a slot this client holds, HELD or SHOWN, to whoever adopts it: it outlives this
    /// process.
    /// Linearizes: D1, the same step as A1.
    /// Pairs:  D1 release -> A0 acquire: what we wrote is seen by who adopts.
    /// ABA:    as adopt().
    /// Crash:  before D1 the slot is this client's to reclaim; after D1 it is nobody's, listed by
    ///         age.
    [[nodiscard]] PutResult detach(Taken t, std::uint32_t limit) noexcept {
        return rewrite(t, limit, SlotWord::detached(t.generation, client_), From::kSelf);
    }

    /// `t` as it is while this lane's client holds it.
    [[nodiscard]] Held held(Taken t) const noexcept {
        return {SlotWord{(std::uint64_t{raw(t.generation)} << 32U) | held_}, t.index};
    }
    /// The low half of a word HELD by this lane's client.
    [[nodiscard]] std::uint64_t held_bits() const noexcept { return held_; }

private:
    /// Times a get looks again because other lanes were in mid-operation, which takes them
    /// nanoseconds unless they were preempted there.
    static constexpr int kLooks = 4;
    /// What a word HELD becomes SHOWN by.
    static constexpr std::uint64_t kFromHeldToShown =
        SlotWord::shown(Generation{0}, ClientId{0}).bits -
        SlotWord::held(Generation{0}, ClientId{0}).bits;

    // What a get reads of the lane, in locals: the compiler can't know that the stores to shared
    // memory leave the members as they are.
    struct View {
        SlotRecord* records;
        std::uint64_t get_step;
        std::uint32_t free;
        std::uint32_t limit;
        std::uint32_t now;
    };
    [[nodiscard, gnu::always_inline]] View view(std::uint32_t limit) const noexcept {
        return {records_, get_step_, free_, limit, live_->now.load(std::memory_order_relaxed)};
    }

    // Mostly the second is still the same: a look costs less than a store.
    [[gnu::always_inline]] static void stamp(std::atomic<std::uint32_t>& time,
                                             std::uint32_t now) noexcept {
        if (time.load(std::memory_order_relaxed) != now) [[unlikely]] {
            time.store(now, std::memory_order_relaxed);
        }
    }

    // Slot `i`, an item of the loaded magazine; false if its word says otherwise, or it is not
    // mapped.
    [[nodiscard, gnu::always_inline]] static bool take_item(const View& view, std::uint32_t i,
                                                            Held& held) noexcept {
        if (i >= view.limit) [[unlikely]] {
            return false;
        }
        if (!take(view.records[i].word, view.free, view.get_step, held)) [[unlikely]] {
            return false;
        }
        held.index = SlotIndex{i};
        stamp(view.records[i].time, view.now);
        return true;
    }

    // C0, C1: a slot that is FREE in the magazine of `free`; false if it is not.
    [[nodiscard, gnu::always_inline]] static bool take(std::atomic<std::uint64_t>& word,
                                                       std::uint32_t free, std::uint64_t get_step,
                                                       Held& held) noexcept {
        const std::uint64_t seen = word.load(std::memory_order_acquire);  // C0
        if (static_cast<std::uint32_t>(seen) != free) [[unlikely]] {
            return false;
        }
        held.word = SlotWord{seen + get_step};
        word.store(held.word.bits, std::memory_order_release);  // C1
        return true;
    }

    template <typename Sink>
    [[nodiscard]] GetResult get_entered(std::uint32_t limit, std::uint32_t wanted, Sink& sink,
                                        std::uint32_t& got, Turn turn) noexcept {
        for (int looks = 0; got < wanted;) {
            const std::uint32_t before = depot_.count(loaded());
            const View seen = view(limit);
            const std::atomic<std::uint32_t>* const items = Pool::items(*loaded_);
            const std::atomic<std::uint32_t>* top = items + before;
            const std::atomic<std::uint32_t>* const last = top - std::min(wanted - got, before);
            Held held;
            while (top != last && take_item(seen, top[-1].load(std::memory_order_relaxed), held)) {
                --top;
                sink(held);
            }
            const auto left = static_cast<std::uint32_t>(top - items);
            loaded_->count.store(left, std::memory_order_release);
            got += before - left;
            if (got == wanted) {
                break;
            }
            if (left != 0) {
                const std::uint32_t i = items[left - 1].load(std::memory_order_relaxed);
                if (i >= limit && i < depot_.pool().index_limit()) {
                    return GetResult::kUnmapped;
                }
                // A stale item, or no such slot: drop it.
                loaded_->count.store(left - 1, std::memory_order_release);
                continue;
            }
            const Refill refilled = refill(turn);
            if (refilled == Refill::kNothing) {
                return GetResult::kExhausted;
            }
            if (refilled == Refill::kOthersBusy && ++looks == kLooks) {
                return GetResult::kBusy;
            }
        }
        return GetResult::kOk;
    }

    // H1; whether the slot is shown now.
    [[nodiscard, gnu::always_inline]] bool mark_shown(Held t) noexcept {
        std::atomic<std::uint64_t>& word = records_[raw(t.index)].word;
        const std::uint64_t seen = word.load(std::memory_order_relaxed);
        const std::uint64_t shown = t.word.bits + kFromHeldToShown;
        if (seen != t.word.bits) [[unlikely]] {
            return seen == shown;
        }
        word.store(shown, std::memory_order_release);  // H1
        return true;
    }

    // F0, F1: FREE in the magazine of `free` for a slot that any other may return or adopt at the
    // same time.
    [[nodiscard]] static bool free_by_handle(std::atomic<std::uint64_t>& word,
                                             Generation generation, std::uint32_t free) noexcept {
        SlotWord seen{word.load(std::memory_order_relaxed)};  // F0
        do {
            if (!seen.has_handle() || seen.generation() != generation) [[unlikely]] {
                return false;
            }
        } while (!word.compare_exchange_weak(seen.bits,
                                             (std::uint64_t{raw(generation)} << 32U) | free,  // F1
                                             std::memory_order_release, std::memory_order_relaxed));
        return true;
    }

    // F1: the same for a slot that its holder has shown.
    [[nodiscard]] static bool free_shown(std::atomic<std::uint64_t>& word, SlotWord shown,
                                         std::uint32_t free) noexcept {
        const std::uint64_t freed = (std::uint64_t{raw(shown.generation())} << 32U) | free;
        return word.compare_exchange_strong(shown.bits, freed, std::memory_order_release,  // F1
                                            std::memory_order_relaxed);
    }

    // F0, F2: the same for a slot that nobody else may take, HELD by this client.
    [[nodiscard, gnu::always_inline]] static bool free_private(std::atomic<std::uint64_t>& word,
                                                               SlotWord held,
                                                               std::uint64_t put_step) noexcept {
        if (word.load(std::memory_order_relaxed) != held.bits) [[unlikely]] {  // F0
            return false;
        }
        word.store(held.bits - put_step, std::memory_order_release);  // F2
        return true;
    }

    // Puts a slot on top of the loaded magazine: the item, the word by `free_word`, the count.
    template <typename FreeWord>
    PutResult put_one(SlotIndex i, FreeWord&& free_word) noexcept {
        PutResult result = PutResult::kNoRoom;
        if (enter()) {
            std::uint32_t count = depot_.count(loaded());
            if (count >= capacity_ && make_room()) {
                count = depot_.count(loaded());
            }
            if (count < capacity_) {
                Pool::items(*loaded_)[count].store(raw(i), std::memory_order_relaxed);
                if (free_word()) {
                    loaded_->count.store(count + 1, std::memory_order_release);
                    bump(record_->puts);  // before B3, see exhaustion.hpp
                    result = PutResult::kOk;
                } else {
                    result = PutResult::kStale;
                }
            }
        } else if (ended_) {
            result = PutResult::kEnded;
        }
        leave();
        if (result != PutResult::kOk) {
            return refuse(result);
        }
        if (is_waited_for()) [[unlikely]] {
            share();
        }
        return result;
    }

    // Whose a slot is before it is rewritten.
    enum class From : std::uint8_t {
        kGiver,  // nobody's, or somebody's who has shown it
        kSelf,   // this client's
    };

    [[nodiscard]] bool may_take(SlotWord seen, From from) const noexcept {
        return from == From::kSelf ? seen.is_held_by(client_) : seen.has_handle();
    }

    [[nodiscard]] SlotWord shown(Generation g) const noexcept {
        return SlotWord::shown(g, client_);
    }

    PutResult adopt_from(From from, Taken& t, std::uint32_t limit) noexcept {
        const Generation grown = next(t.generation);
        const PutResult result = rewrite(t, limit, SlotWord::held(grown, client_), from);
        if (result == PutResult::kOk) {
            t.generation = grown;
        }
        return result;
    }

    PutResult rewrite(Taken t, std::uint32_t limit, SlotWord wanted, From from) noexcept {
        if (raw(t.index) >= limit) {
            return refuse(out_of_reach(t.index));
        }
        if (is_ended()) {  // no busy section stands here, so no bit would stop it
            return refuse(PutResult::kEnded);
        }
        SlotRecord& record = records_[raw(t.index)];
        SlotWord seen{record.word.load(std::memory_order_relaxed)};
        do {
            if (!may_take(seen, from) || seen.generation() != t.generation) {
                return refuse(PutResult::kStale);
            }
            // Before D1: who sees the slot detached sees since when.
            record.time.store(live_->now.load(std::memory_order_relaxed),
                              std::memory_order_relaxed);
        } while (
            !record.word.compare_exchange_weak(seen.bits, wanted.bits,     // A1, D1
                                               std::memory_order_acq_rel,  // A0 is A1's own load
                                               std::memory_order_relaxed));
        return PutResult::kOk;
    }

    [[gnu::noinline, gnu::cold]] PutResult refuse(PutResult why) noexcept {
        if (why != PutResult::kEnded) {  // the handle may be right
            bump(record_->refused);
        }
        return why;
    }

    [[nodiscard]] PutResult out_of_reach(SlotIndex i) const noexcept {
        return raw(i) < depot_.pool().index_limit() ? PutResult::kUnmapped : PutResult::kOutOfRange;
    }

    ClientId client_;
};

}  // namespace mempool::shm
