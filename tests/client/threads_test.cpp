// Lanes of threads: claimed at first use, returned at the end, shared when there are too few.
#include <atomic>
#include <barrier>
#include <memory>
#include <optional>
#include <thread>

#include "client/fixture.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Slot;

TEST(Threads, ALaneIsClaimedAtTheFirstUseAndReturnedAtTheEnd) {
    const Served served;
    Client client = served.attach();
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    std::thread([&] {
        EXPECT_TRUE(client.get());
        EXPECT_TRUE(client.get());
        EXPECT_EQ(served.pool.lanes_in_use(), 1U);
    }).join();
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    EXPECT_TRUE(client.get());
    EXPECT_EQ(served.pool.lanes_in_use(), 1U);
}

TEST(Threads, WhatAThreadHadCachedIsThereForOthersWhenItEnds) {
    const Served served;
    Client client = served.attach();
    std::thread([&] { EXPECT_EQ(get_all(client).size(), 64U); }).join();
    EXPECT_EQ(get_all(client).size(), 64U);
}

TEST(Threads, MoreThreadsThanLanesShareTheHomeLane) {
    // Two clients' worth of records: six lanes for threads.
    const Served served({.slots = 256, .client_count = 2});
    Client client = served.attach();
    constexpr int kThreads = 16;
    constexpr int kRounds = 2000;
    std::barrier everybody(kThreads);
    std::atomic<std::uint64_t> got{0};
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int k = 0; k < kThreads; ++k) {
        threads.emplace_back([&, k] {
            everybody.arrive_and_wait();
            for (int round = 0; round < kRounds; ++round) {
                if (const Slot slot = client.get()) {
                    auto* stamp = reinterpret_cast<int*>(slot.data());
                    *stamp = k;
                    std::this_thread::yield();
                    EXPECT_EQ(*stamp, k);
                    got.fetch_add(1);
                }
            }
            everybody.arrive_and_wait();
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_GT(got.load(), 0U);
    // The home lane stays with the client.
    EXPECT_LE(served.pool.lanes_in_use(), 1U);
    EXPECT_EQ(served.pool.free_slots(), 256U);
}

TEST(Threads, WhatLiesInTheHomeLaneIsForAllThreads) {
    const Served served({.slots = 8, .magazine_capacity = 4, .client_count = 2});
    Client client = served.attach();
    std::vector<Slot> all = get_all(client);
    ASSERT_EQ(all.size(), 8U);
    std::barrier step(7);
    std::vector<std::thread> holders;
    holders.reserve(5);
    for (int k = 0; k < 5; ++k) {
        holders.emplace_back([&] {
            EXPECT_FALSE(client.get());
            step.arrive_and_wait();  // with the test's own, the six lanes are taken
            step.arrive_and_wait();
        });
    }
    std::thread surplus([&] {
        step.arrive_and_wait();
        all.clear();
        step.arrive_and_wait();
    });
    step.arrive_and_wait();
    step.arrive_and_wait();
    EXPECT_EQ(get_all(client).size(), 8U);
    surplus.join();
    for (std::thread& holder : holders) {
        holder.join();
    }
}

TEST(Threads, SlotsMoveBetweenThreads) {
    const Served served;
    Client client = served.attach();
    for (int k = 0; k < 200; ++k) {
        Slot slot = client.get();
        ASSERT_TRUE(slot);
        std::thread([moved = std::move(slot)]() mutable { moved.reset(); }).join();
    }
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Threads, AThreadMayOutliveItsClient) {
    const Served served;
    std::barrier step(2);
    std::optional<Client> client = served.attach();
    std::thread thread([&] {
        EXPECT_TRUE(client->get());
        step.arrive_and_wait();
        step.arrive_and_wait();
    });
    step.arrive_and_wait();
    client.reset();
    step.arrive_and_wait();
    thread.join();
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Threads, ManyClientsOneAfterAnotherInOneThread) {
    const Served served({.client_count = 64});
    for (int k = 0; k < 60; ++k) {
        Client client = served.attach();
        EXPECT_TRUE(client.get());
    }
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
}

TEST(Threads, ManyClientsAtOnceInOneThread) {
    const Served served({.slots = 1024, .client_count = 32});
    std::vector<Client> clients;
    clients.reserve(20);
    for (int k = 0; k < 20; ++k) {
        clients.push_back(served.attach());
    }
    for (int round = 0; round < 50; ++round) {
        for (Client& client : clients) {
            EXPECT_TRUE(client.get());
        }
    }
    EXPECT_EQ(served.pool.lanes_in_use(), 20U);
    clients.clear();
    EXPECT_EQ(served.pool.free_slots(), 1024U);
}

TEST(Threads, EndWhileTheClientGoes) {
    for (int round = 0; round < 50; ++round) {
        const Served served;
        auto client = std::make_unique<Client>(served.attach());
        std::barrier step(3);
        std::vector<std::thread> threads;
        threads.reserve(2);
        for (int k = 0; k < 2; ++k) {
            threads.emplace_back([&] {
                EXPECT_TRUE(client->get());
                step.arrive_and_wait();
            });
        }
        step.arrive_and_wait();
        client.reset();
        for (std::thread& thread : threads) {
            thread.join();
        }
        EXPECT_EQ(served.pool.lanes_in_use(), 0U);
        EXPECT_EQ(served.pool.free_slots(), 64U);
    }
}

// Destroyed after the thread's list of lanes, since it was made before it.
struct LateUser {
    LateUser() = default;
    LateUser(const LateUser&) = delete;
    LateUser& operator=(const LateUser&) = delete;
    ~LateUser() {
        if (client != nullptr) {
            EXPECT_TRUE(client->get());
        }
    }
    Client* client = nullptr;
};

TEST(Threads, AThreadLocalDestructorMayStillGet) {
    const Served served;
    Client client = served.attach();
    std::thread([&] {
        thread_local LateUser late;
        late.client = &client;
        EXPECT_TRUE(client.get());
    }).join();
    EXPECT_EQ(served.pool.free_slots(), 64U);
    EXPECT_LE(served.pool.lanes_in_use(), 1U);
}

}  // namespace
}  // namespace mempool_test
