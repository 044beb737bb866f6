// A pool's quota, as the library keeps it: counted where it leaves the fast path, so exact to a
// magazine a thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "client/fixture.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Slot;

constexpr std::uint32_t kQuota = 10;

/// Served, with a quota.
struct Limited : Served {
    explicit Limited(std::uint32_t magazine_capacity, std::uint32_t quota = kQuota,
                     std::uint32_t slots = 64)
        : Served({.slots = slots, .magazine_capacity = magazine_capacity}) {
        set(quota);
    }
    void set(std::uint32_t quota) const { pool.pool().live().quota.store(quota); }
};

/// Whether a get succeeds before patience ends: after a refusal the library counts again a little
/// later.
bool gets_again(Client& client) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (std::chrono::steady_clock::now() < deadline) {
        if (client.get()) {
            return true;
        }
    }
    return false;
}

TEST(Quota, OfAClientWithMagazinesOfOneSlotIsExact) {
    const Limited world(1);
    Client client = world.attach();
    EXPECT_EQ(get_all(client).size(), kQuota);
}

TEST(Quota, IsExceededByLessThanAMagazine) {
    const Limited world(4);
    Client client = world.attach();
    const auto slots = get_all(client);
    EXPECT_GE(slots.size(), kQuota);
    EXPECT_LT(slots.size(), kQuota + 4);
}

TEST(Quota, SaysWhyItRefuses) {
    const Limited world(1);
    Client client = world.attach();
    const auto slots = get_all(client);
    std::error_code error;
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kOverQuota);
    EXPECT_FALSE(client.get_for(std::chrono::hours{1}, error)) << "it doesn't wait for itself";
    EXPECT_EQ(error, Errc::kOverQuota);
}

TEST(Quota, OfOneClientLeavesTheOthersTheirs) {
    const Limited world(1);
    Client first = world.attach();
    Client second = world.attach();
    const auto slots = get_all(first);
    EXPECT_EQ(get_all(second).size(), kQuota);
}

TEST(Quota, BoundsABulkGet) {
    const Limited world(1);
    Client client = world.attach();
    std::vector<Slot> slots(30);
    slots.front() = client.get();  // its thread has a lane
    slots.front().reset();
    std::error_code error;
    EXPECT_EQ(client.get_bulk(slots, error), kQuota);
    EXPECT_EQ(error, Errc::kOverQuota);
}

TEST(Quota, LetsGetWhatWasReturned) {
    const Limited world(1);
    Client client = world.attach();
    auto slots = get_all(client);
    slots.pop_back();
    EXPECT_TRUE(gets_again(client));
}

TEST(Quota, CountsWhatOthersReturnedForIt) {
    const Limited world(1);
    Client producer = world.attach();
    Client consumer = world.attach();
    auto slots = get_all(producer);
    for (Slot& slot : slots) {
        EXPECT_FALSE(consumer.put(slot.release()));
    }
    EXPECT_TRUE(gets_again(producer));
}

TEST(Quota, CountsWhatWasAdopted) {
    const Limited world(1);
    Client producer = world.attach();
    Client consumer = world.attach();
    std::vector<Slot> adopted;
    for (Slot& slot : get_all(producer)) {
        adopted.push_back(consumer.adopt(slot.release()));
    }
    EXPECT_FALSE(consumer.get());
    EXPECT_TRUE(gets_again(producer)) << "it holds nothing any more";
}

TEST(Quota, MayBeChangedWhileClientsWork) {
    const Limited world(1);
    Client client = world.attach();
    auto slots = get_all(client);
    world.set(kQuota + 5);
    auto more = get_all(client);
    EXPECT_EQ(more.size(), 5U);
    world.set(3);
    EXPECT_FALSE(client.get());
    world.set(0);
    EXPECT_EQ(get_all(client).size(), 64 - kQuota - 5);
}

TEST(Quota, TakenAwayAndSetAgainBindsAgain) {
    const Limited world(1);
    Client client = world.attach();
    {
        world.set(0);
        const auto all = get_all(client);
        for (int k = 0; k < 100; ++k) {
            EXPECT_FALSE(client.get());
        }
    }
    world.set(kQuota);
    EXPECT_EQ(get_all(client).size(), kQuota);
}

/// Has `threads` threads get in bulk what `client` may, all at once; the most that they held
/// together in `rounds` rounds.
std::size_t most_got_in_bulk(Client& client, std::uint32_t threads, std::size_t each, int rounds) {
    std::size_t most = 0;
    for (int round = 0; round < rounds; ++round) {
        std::vector<std::vector<Slot>> got(threads);
        std::atomic<std::uint32_t> ready{0};
        std::vector<std::thread> workers;
        workers.reserve(threads);
        for (auto& mine : got) {
            workers.emplace_back([&] {
                mine.resize(each);
                mine.front() = client.get();
                ready.fetch_add(1);
                while (ready.load() < threads) {
                    std::this_thread::yield();
                }
                mine.resize(1 + client.get_bulk(std::span(mine).subspan(1)));
            });
        }
        for (std::thread& worker : workers) {
            worker.join();
        }
        std::size_t sum = 0;
        for (const auto& mine : got) {
            sum += static_cast<std::size_t>(std::ranges::count_if(mine, &Slot::operator bool));
        }
        most = std::max(most, sum);
    }
    return most;
}

TEST(Quota, OfThreadsThatGetInBulkIsExceededByLessThanAMagazineEach) {
    constexpr std::uint32_t kThreads = 4;
    constexpr std::uint32_t kCapacity = 2;
    const Limited world(kCapacity, 20);
    Client client = world.attach();
    EXPECT_LE(most_got_in_bulk(client, kThreads, 60, 200), 20 + kThreads * kCapacity);
}

// Counting so many words takes long enough for others to get meanwhile: what they get must have
// been allowed before.
TEST(Quota, CountedOverManySlotsWhileOthersGetIsNoLooser) {
    constexpr std::uint32_t kThreads = 4;
    constexpr std::uint32_t kCapacity = 2;
    constexpr std::uint32_t kMany = 8000;
    const Limited world(kCapacity, kMany, 2 * kMany);
    Client client = world.attach();
    EXPECT_LE(most_got_in_bulk(client, kThreads, 2 * kMany, 20), kMany + kThreads * kCapacity);
}

TEST(Quota, OfAllThreadsOfAClientTogether) {
    constexpr std::uint32_t kThreads = 4;
    const Limited world(1);
    Client client = world.attach();
    std::vector<std::vector<Slot>> got(kThreads);
    {
        std::vector<std::thread> threads;
        threads.reserve(kThreads);
        for (auto& mine : got) {
            threads.emplace_back([&client, &mine] { mine = get_all(client); });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
    }
    std::size_t sum = 0;
    for (const auto& mine : got) {
        sum += mine.size();
    }
    EXPECT_GE(sum, kQuota);
    EXPECT_LE(sum, kQuota + kThreads - 1);
}

}  // namespace
}  // namespace mempool_test
