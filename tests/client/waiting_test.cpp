// get_for(): in time, too late, woken by a put, by another thread, by growth.
#include <atomic>
#include <chrono>
#include <thread>

#include "client/fixture.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Slot;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// A pool whose magazines hold one slot, so that none idles in a lane.
FakePoolOptions tight(std::uint32_t slots) { return {.slots = slots, .magazine_capacity = 1}; }

void wait_for_waiter(const FakePool& pool) {
    while (pool.pool().live().waiters.load() == 0) {
        std::this_thread::yield();
    }
}

TEST(GetFor, GivesAFreeSlotWhateverTheTimeout) {
    const Served served;
    Client client = served.attach();
    for (const nanoseconds timeout :
         {nanoseconds::min(), nanoseconds{-1}, nanoseconds{0}, nanoseconds::max()}) {
        std::error_code error = Errc::kStale;
        EXPECT_TRUE(client.get_for(timeout, error));
        EXPECT_FALSE(error);
    }
}

TEST(GetFor, TimesOutWhenNothingIsReturned) {
    const Served served(tight(1));
    Client client = served.attach();
    const Slot only = client.get();
    for (const nanoseconds timeout :
         {nanoseconds::min(), nanoseconds{0}, nanoseconds{1}, nanoseconds{milliseconds{5}}}) {
        std::error_code error;
        EXPECT_FALSE(client.get_for(timeout, error));
        EXPECT_EQ(error, Errc::kTimedOut);
    }
    EXPECT_FALSE(client.get_for(milliseconds{1}));
    EXPECT_EQ(served.pool.pool().live().waiters.load(), 0U);
}

TEST(GetFor, CountsOneFailureHoweverOftenItLooks) {
    const Served served(tight(1));
    Client client = served.attach();
    const Slot only = client.get();
    EXPECT_FALSE(client.get_for(milliseconds{20}));
    std::uint64_t failures = 0;
    for (std::uint32_t l = 0; l < served.pool.pool().geometry().lane_count; ++l) {
        failures += served.pool.pool().lane(mempool::shm::LaneId{l}).exhausted.load();
    }
    EXPECT_EQ(failures, 1U);
}

TEST(GetFor, GetsWhatAnotherThreadReturns) {
    const Served served(tight(1));
    Client client = served.attach();
    Slot only = client.get();
    std::thread waiter([&] {
        const Slot slot = client.get_for(nanoseconds::max());
        EXPECT_TRUE(slot);
    });
    wait_for_waiter(served.pool);
    only.reset();
    waiter.join();
    EXPECT_EQ(served.pool.pool().live().waiters.load(), 0U);
}

TEST(GetFor, GetsWhatAnotherClientReturnsFromAFullCache) {
    const Served served({.slots = 64, .magazine_capacity = 4});
    Client holder = served.attach();
    Client client = served.attach();
    std::vector<Slot> all = get_all(holder);
    ASSERT_EQ(all.size(), 64U);
    std::thread waiter([&] { EXPECT_TRUE(client.get_for(nanoseconds::max())); });
    wait_for_waiter(served.pool);
    all.pop_back();
    waiter.join();
}

TEST(GetFor, EveryWaiterIsServed) {
    const Served served({.slots = 4, .magazine_capacity = 4});
    Client client = served.attach();
    std::vector<Slot> all = get_all(client);
    ASSERT_EQ(all.size(), 4U);
    std::vector<std::thread> waiters;
    waiters.reserve(4);
    for (int k = 0; k < 4; ++k) {
        waiters.emplace_back([&] {
            const Slot slot = client.get_for(seconds{30});
            EXPECT_TRUE(slot);
        });
    }
    while (served.pool.pool().live().waiters.load() != 4) {
        std::this_thread::yield();
    }
    all.clear();
    for (std::thread& waiter : waiters) {
        waiter.join();
    }
    EXPECT_EQ(served.pool.free_slots(), 4U);
}

TEST(GetFor, GetsASlotOfASegmentAddedMeanwhile) {
    FakePool pool({.slots = 1, .max_slots = 64, .magazine_capacity = 1});
    const FakeDaemon daemon({&pool}, [&](const mempool::shm::Request& request, Answer&) {
        if (request.kind == mempool::shm::RequestKind::kWantMore) {
            pool.grow(8);
        }
    });
    Client client = Client::attach(pool.name(), daemon.options());
    const Slot only = client.get();
    EXPECT_TRUE(client.get_for(nanoseconds::max()));
}

TEST(GetFor, ThreadsThatShareTheHomeLaneWaitToo) {
    const Served served({.slots = 2, .magazine_capacity = 1, .client_count = 2});
    Client client = served.attach();
    std::vector<Slot> all = get_all(client);
    // More than the six lanes there are for threads.
    std::vector<std::thread> waiters;
    waiters.reserve(10);
    for (int k = 0; k < 10; ++k) {
        waiters.emplace_back([&] { EXPECT_TRUE(client.get_for(seconds{30})); });
    }
    wait_for_waiter(served.pool);
    all.clear();
    for (std::thread& waiter : waiters) {
        waiter.join();
    }
    EXPECT_EQ(served.pool.pool().live().waiters.load(), 0U);
}

TEST(GetFor, WaiterIsServedBesideOneThatNeverStops) {
    const Served served(tight(1));
    Client client = served.attach();
    std::atomic<bool> over{false};
    std::thread greedy([&] {
        while (!over) {
            const Slot slot = client.get();  // returned at once, and wanted again
        }
    });
    for (int k = 0; k < 20; ++k) {
        EXPECT_TRUE(client.get_for(seconds{30}));
    }
    over = true;
    greedy.join();
}

TEST(GetUntil, EndsAtItsDeadline) {
    const Served served(tight(1));
    Client client = served.attach();
    const auto now = std::chrono::steady_clock::now();
    Slot only = client.get_until(now);  // there is one: no matter when
    EXPECT_TRUE(only);
    std::error_code error;
    EXPECT_FALSE(client.get_until(now + milliseconds{5}, error));
    EXPECT_EQ(error, Errc::kTimedOut);
    EXPECT_GE(std::chrono::steady_clock::now(), now + milliseconds{5});
    EXPECT_FALSE(client.get_until(std::chrono::steady_clock::time_point::min(), error));
    EXPECT_EQ(error, Errc::kTimedOut);
}

TEST(Close, EndsAllWaitsAndRefusesWhatComesAfter) {
    const Served served({.slots = 8, .magazine_capacity = 2});
    Client client = served.attach();
    std::vector<Slot> all = get_all(client);
    ASSERT_EQ(all.size(), 8U);
    std::vector<std::thread> waiters;
    waiters.reserve(3);
    for (int k = 0; k < 3; ++k) {
        waiters.emplace_back([&] {
            std::error_code error;
            EXPECT_FALSE(client.get_for(nanoseconds::max(), error));
            EXPECT_EQ(error, Errc::kClosed);
        });
    }
    while (served.pool.pool().live().waiters.load() != 3) {
        std::this_thread::yield();
    }
    client.close();
    for (std::thread& waiter : waiters) {
        waiter.join();
    }
    EXPECT_FALSE(client.put(std::move(all.back())));  // no error: what is out can be returned
    all.pop_back();
    std::error_code error;
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kClosed);
    EXPECT_FALSE(client.get_for(seconds{1}, error));
    EXPECT_EQ(error, Errc::kClosed);
    std::vector<Slot> more(2);
    EXPECT_EQ(client.get_bulk(more, error), 0U);
    EXPECT_EQ(error, Errc::kClosed);
    const mempool::Handle handle = all.back().handle();
    EXPECT_FALSE(client.adopt(handle, error));
    EXPECT_EQ(error, Errc::kClosed);
    const std::size_t rest = all.size();
    EXPECT_EQ(client.put_bulk(all), rest);
    client.close();  // once more does nothing
    EXPECT_EQ(served.pool.free_slots(), 8U);
}

TEST(Close, LeavesOtherClientsOfThePoolAlone) {
    const Served served(tight(1));
    Client client = served.attach();
    Client other = served.attach();
    Slot only = other.get();
    std::thread waiter([&] { EXPECT_TRUE(other.get_for(nanoseconds::max())); });
    wait_for_waiter(served.pool);
    client.close();  // wakes it for nothing: it sleeps again
    only.reset();
    waiter.join();
}

}  // namespace
}  // namespace mempool_test
