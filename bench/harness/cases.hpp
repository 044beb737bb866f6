// The cases: what is done with a pool, the same code for every peer.
//
// Everything in a timed loop is a template, so that each peer's calls are inlined as far as its own
// headers allow. Every figure is nanoseconds for one slot from its get to its put.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "harness/peer.hpp"
#include "harness/stopwatch.hpp"
#include "harness/token_ring.hpp"

namespace bench {

/// At least so many chunks to warm up: as many objects as a pool of large ones has.
constexpr std::uint64_t kWarmChunks = 64;

/// Slots that a party has out at once in the deep case: more than caches hold, so that what all
/// parties share is used all the time.
constexpr std::size_t kDeep = 1536;

/// The compiler must take the slot's bytes for written and read here. The same for all peers.
inline void touch(const void* data) { asm volatile("" : : "r"(data) : "memory"); }

[[noreturn]] inline void fail(const char* what) { throw std::runtime_error(what); }

/// Slots this process got and put in all, warming up included: what to divide its instructions by.
inline std::atomic<std::uint64_t> slots_done{0};

/// Nanoseconds a slot, over `budget`; `chunk()` does `slots` slots. Before that it warms up, a
/// quarter as long and once through the pool, and meets the other parties.
template <typename Chunk>
double ns_per_slot(Clock::duration budget, std::uint64_t slots, Meeting& meeting, Chunk chunk) {
    Stopwatch watch(slots);
    std::uint64_t chunks = 0;
    const auto warm = Clock::now() + budget / 4;
    for (; chunks < kWarmChunks || Clock::now() < warm; ++chunks) {
        chunk();
    }
    meeting.meet();
    watch.start();
    const auto end = Clock::now() + budget;
    do {
        chunk();
        ++chunks;
    } while (watch.lap() < end);
    slots_done += chunks * slots;
    return watch.ns_per_slot();
}

// Inlined whatever its size: where a peer's get is inline, this is.
template <typename User>
[[gnu::always_inline]] inline typename User::Item must_get(User& user) {
    auto item = user.get();
    if (User::data(item) == nullptr) [[unlikely]] {
        fail("the pool is exhausted");
    }
    return item;
}

template <typename User>
double time_pairs(User& user, Clock::duration budget, Meeting& meeting) {
    return ns_per_slot(budget, kChunk, meeting, [&] {
        for (std::uint64_t k = 0; k < kChunk; ++k) {
            auto item = must_get(user);
            touch(User::data(item));
            user.put(std::move(item));
        }
    });
}

template <typename User>
double time_burst(User& user, Clock::duration budget, Meeting& meeting) {
    auto items = std::make_unique<std::array<typename User::Item, kBatch>>();
    return ns_per_slot(budget, kChunk, meeting, [&] {
        for (std::uint64_t k = 0; k < kChunk; k += kBatch) {
            for (auto& item : *items) {
                item = must_get(user);
                touch(User::data(item));
            }
            for (auto& item : *items) {
                user.put(std::move(item));
            }
        }
    });
}

template <typename User>
double time_deep(User& user, Clock::duration budget, Meeting& meeting) {
    std::vector<typename User::Item> items(kDeep);
    return ns_per_slot(budget, kDeep, meeting, [&] {
        for (auto& item : items) {
            item = must_get(user);
            touch(User::data(item));
        }
        for (auto& item : items) {
            user.put(std::move(item));
        }
    });
}

template <typename User>
double time_bulk(User& user, Clock::duration budget, Meeting& meeting) {
    auto items = std::make_unique<std::array<typename User::Item, kBatch>>();
    return ns_per_slot(budget, kChunk, meeting, [&] {
        for (std::uint64_t k = 0; k < kChunk; k += kBatch) {
            if (!user.get_bulk(*items)) [[unlikely]] {
                fail("the pool is exhausted");
            }
            for (auto& item : *items) {
                touch(User::data(item));
            }
            user.put_bulk(*items);
        }
    });
}

template <typename User>
double time_stamps(User& user, Clock::duration budget, Meeting& meeting) {
    std::uint64_t stamp = 0;
    return ns_per_slot(budget, kChunk, meeting, [&] {
        for (std::uint64_t k = 0; k < kChunk; ++k) {
            auto item = must_get(user);
            std::memcpy(User::data(item), &++stamp, sizeof stamp);
            touch(User::data(item));
            if (std::memcmp(User::data(item), &stamp, sizeof stamp) != 0) [[unlikely]] {
                fail("a slot's bytes changed under its holder");
            }
            user.put(std::move(item));
        }
    });
}

/// Writes and checks all of an object; not inlined, so that all peers run the same instructions.
[[gnu::noinline]] inline void fill(std::byte* data, std::size_t bytes, std::uint64_t seed) {
    auto* words = reinterpret_cast<std::uint64_t*>(data);
    for (std::size_t k = 0; k < bytes / sizeof *words; ++k) {
        words[k] = seed + k;
    }
}
[[gnu::noinline]] inline bool is_filled(const std::byte* data, std::size_t bytes,
                                        std::uint64_t seed) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(data);
    std::uint64_t wrong = 0;
    for (std::size_t k = 0; k < bytes / sizeof *words; ++k) {
        wrong |= words[k] ^ (seed + k);
    }
    return wrong == 0;
}

template <typename User>
double time_objects(User& user, std::size_t bytes, Clock::duration budget, Meeting& meeting) {
    std::uint64_t seed = 0;
    return ns_per_slot(budget, 1, meeting, [&] {
        auto item = must_get(user);
        fill(User::data(item), bytes, ++seed);
        touch(User::data(item));
        if (!is_filled(User::data(item), bytes, seed)) {
            fail("an object's bytes changed under its holder");
        }
        user.put(std::move(item));
    });
}

/// Of `held` slots a random one is replaced: the new one is got before the old one is returned.
template <typename User>
double time_held(User& user, std::uint32_t held, Clock::duration budget, Meeting& meeting) {
    std::vector<typename User::Item> items(held);
    for (auto& item : items) {
        item = must_get(user);
    }
    std::uint64_t random = 0x9E3779B97F4A7C15;
    const double ns = ns_per_slot(budget, kChunk, meeting, [&] {
        for (std::uint64_t k = 0; k < kChunk; ++k) {
            random ^= random << 13U;
            random ^= random >> 7U;
            random ^= random << 17U;
            auto& item = items[((random >> 32U) * held) >> 32U];
            auto next = must_get(user);
            touch(User::data(next));
            user.put(std::move(item));
            item = std::move(next);
        }
    });
    for (auto& item : items) {
        user.put(std::move(item));
    }
    return ns;
}

/// Gets a batch, by one call where the peer can; waits for the receiver where nothing is left.
template <std::size_t Count, typename User>
void get_batch(User& user, std::array<typename User::Item, Count>& items) {
    if constexpr (Count > 1 && Bulk<User>) {
        while (!user.get_bulk(items)) {
            ::sched_yield();
        }
    } else {
        for (auto& item : items) {
            while (User::data(item = user.get()) == nullptr) {
                ::sched_yield();
            }
        }
    }
}

constexpr std::uint64_t kEnd = ~std::uint64_t{0};

/// Whether the peer has one call that makes tokens of a batch.
template <std::size_t Count, typename User>
constexpr bool kSendsInBulk = Count > 1 &&
                              requires(User& user, std::span<typename User::Item> items,
                                       std::span<std::uint64_t> tokens) {
    user.send_bulk(items, tokens);
};

/// The party that gets slots and sends their tokens, in batches of Count, until its time is over,
/// and a chunk at least.
template <std::size_t Count, typename User>
void send_slots(User& user, TokenRing& ring, Clock::duration budget) {
    auto items = std::make_unique<std::array<typename User::Item, Count>>();
    std::array<std::uint64_t, Count> tokens{};
    const auto end = Clock::now() + budget;
    do {
        for (std::uint64_t k = 0; k < kChunk; k += Count) {
            get_batch<Count>(user, *items);
            for (std::size_t i = 0; i < Count; ++i) {
                touch(User::data((*items)[i]));
                if constexpr (!kSendsInBulk<Count, User>) {
                    tokens[i] = user.send((*items)[i]);
                }
            }
            if constexpr (kSendsInBulk<Count, User>) {
                user.send_bulk(*items, tokens);
            }
            ring.push(tokens);
        }
    } while (Clock::now() < end);
    tokens.fill(kEnd);
    ring.push(tokens);
}

template <std::size_t Count, typename User>
void return_batch(User& user, std::span<const std::uint64_t, Count> tokens) {
    if constexpr (Count > 1 && Bulk<User>) {
        user.put_sent_bulk(tokens);
    } else {
        for (const std::uint64_t token : tokens) {
            user.put_sent(token);
        }
    }
}

/// The party that returns them; nanoseconds a slot.
template <std::size_t Count, typename User>
double return_slots(User& user, TokenRing& ring) {
    std::array<std::uint64_t, Count> tokens{};
    Stopwatch watch(kChunk);
    watch.start();
    for (;;) {
        for (std::uint64_t k = 0; k < kChunk; k += Count) {
            ring.pop(tokens);
            if (tokens[0] == kEnd) {
                return watch.ns_per_slot();
            }
            return_batch<Count>(user, tokens);
        }
        watch.lap();
    }
}

/// Half of the parties send slots of one pool, each to a receiver of its own; nanoseconds a slot,
/// the mean of the receivers.
template <std::size_t Count, typename Pool>
double time_hand_over(Pool& pool, int parties, Clock::duration budget) {
    std::vector<TokenRing*> rings;
    for (int k = 0; k < parties; k += 2) {
        rings.push_back(new (shared_memory(sizeof(TokenRing))) TokenRing{});
    }
    const auto ns = run_parties(Pool::kKind, parties, [&](int index, Meeting& meeting) {
        typename Pool::User user(pool, index);
        TokenRing& ring = *rings[static_cast<std::size_t>(index / 2)];
        meeting.meet();
        double result = 0;
        if (index % 2 == 0) {
            send_slots<Count>(user, ring, budget);
        } else {
            result = return_slots<Count>(user, ring);
        }
        meeting.meet();  // its caches stay where they are until the others are done
        return result;
    });
    return std::accumulate(ns.begin(), ns.end(), 0.0) / static_cast<double>(rings.size());
}

}  // namespace bench
