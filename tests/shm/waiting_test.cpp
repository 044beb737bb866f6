// Waiting: no wake is lost, however puts, steals and falling asleep interleave.
#include "mempool/shm/lane/waiting.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::TestPool;

// Nobody looks again by himself: who misses a wake sleeps for ever.
constexpr WaitSlices kOnlyWakes{.usual = std::chrono::hours{1},
                                .unfenced = std::chrono::milliseconds{2},
                                .busy = std::chrono::microseconds{50},
                                .patience = std::chrono::hours{1}};

// Each of `threads` gets a slot, waiting if there is none, and returns it, `rounds` times.
void trade(std::uint32_t slots, std::uint32_t capacity, std::uint32_t threads, int rounds) {
    TestPool test({.slots = slots, .capacity = capacity, .client_count = threads + 2});
    std::atomic<int> holders{0};
    const auto work = [&](std::uint32_t id) {
        Lane lane(test.pool(), LaneId{id}, ClientId{id}, 0);
        ASSERT_TRUE(lane.open());
        for (int k = 0; k < rounds; ++k) {
            // Nobody feels pulses: who sleeps for so long has none, and would be woken.
            test.pool().live().pulses_felt_at.store(monotonic_ns());
            Held held;
            std::uint32_t options = 0;
            if (!lane.try_get(test.limit(), held, options)) {
                Taken t;
                const GetResult result = wait(
                    test.pool(), lane.record(), MonotonicClock::time_point::max(),
                    [&](Turn turn) { return lane.get(test.limit(), t, turn); }, kOnlyWakes);
                ASSERT_EQ(result, GetResult::kOk);
                held = lane.held(t);
                if (lane.is_waited_for()) {
                    lane.share();
                }
            }
            ASSERT_LE(holders.fetch_add(1), static_cast<int>(slots) - 1);
            if (k % 16 == 0) {
                std::this_thread::yield();
            }
            holders.fetch_sub(1);
            if (!lane.try_put_private(held)) {
                ASSERT_EQ(lane.put_private(held.taken()), PutResult::kOk);
            } else if (lane.is_waited_for()) {
                lane.share();
            }
        }
        lane.close();
    };
    std::vector<std::thread> workers;
    for (std::uint32_t id = 1; id <= threads; ++id) {
        test.attach(ClientId{id});
        ASSERT_TRUE(try_claim_lane(test.pool(), LaneId{id}, ClientId{id}));
    }
    for (std::uint32_t id = 1; id <= threads; ++id) {
        workers.emplace_back(work, id);
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(test.pool().live().waiters.load(), 0U);
    for (std::uint32_t id = 1; id <= threads; ++id) {
        free_lane(test.pool(), LaneId{id});
        test.pool().client(ClientId{id}).state.store(ClientState::kFree);
    }
    EXPECT_EQ(test::fault_at_rest(test, 0), "");
}

TEST(Waiting, NoWakeIsLostOverOneSlot) { trade(1, 1, 4, 4000); }

TEST(Waiting, NoWakeIsLostOverFewSlotsInLargerMagazines) { trade(3, 2, 6, 3000); }

TEST(Waiting, DeadWaiterIsSubtractedByItsReclaim) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    // As SIGKILL leaves it: counted, and nobody to take it back.
    test.pool().live().waiters.fetch_add(2);
    lane.record().waiting.fetch_add(2);
    lane.record().counted.fetch_add(2);
    test.bury(ClientId{1});
    EXPECT_EQ(test.pool().live().waiters.load(), 0U);
    EXPECT_EQ(lane.record().waiting.load(), 0U);
    EXPECT_EQ(count_waiters(test.pool()), 0U);
}

// As the daemon does each second, and a put that shares: twice, a second apart.
void look_twice(const Pool& pool) {
    for (int k = 0; k < 2; ++k) {
        pool.live().pulses_felt_at.store(0);
        take_out_the_stopped(pool);
    }
}

TEST(Waiting, WhoStandsStillIsNotCountedUntilItGoesOn) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    int looks = 0;
    const auto stop_in_the_first = [&](Turn) {
        EXPECT_EQ(live.waiters.load(), 1U);  // again, and before it looks
        EXPECT_EQ(lane.record().waiting.load(), 1U);
        if (++looks == 1) {
            look_twice(test.pool());
            EXPECT_EQ(live.waiters.load(), 0U);
            EXPECT_FALSE(lane.is_waited_for());
        }
        return looks == 3 ? GetResult::kOk : GetResult::kExhausted;
    };
    const WaitSlices short_ones{.usual = std::chrono::microseconds{1}};
    EXPECT_EQ(wait(test.pool(), lane.record(), MonotonicClock::time_point::max(), stop_in_the_first,
                   short_ones),
              GetResult::kOk);
    EXPECT_EQ(live.waiters.load(), 0U);
    EXPECT_EQ(lane.record().waiting.load(), 0U);
}

TEST(Waiting, WhoMovesStaysCounted) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    Registration waiter(live, lane.record());
    EXPECT_FALSE(waiter.is_counted());
    (void)waiter.enlist();
    for (int k = 0; k < 5; ++k) {
        waiter.tick();
        live.pulses_felt_at.store(0);
        take_out_the_stopped(test.pool());
        EXPECT_TRUE(waiter.is_counted());
    }
    look_twice(test.pool());
    EXPECT_FALSE(waiter.is_counted());
    EXPECT_EQ(live.waiters.load(), 0U);
}

TEST(Waiting, PutsStopSharingForOneThatStandsStillWithoutADaemon) {
    TestPool test;
    Lane stopped = test.open(LaneId{1}, ClientId{1});
    Lane other = test.open(LaneId{2}, ClientId{2});
    Live& live = test.pool().live();
    {
        Registration waiter(live, stopped.record());
        (void)waiter.enlist();
        waiter.tick();
        std::uint32_t shared = 0;
        for (; other.is_waited_for(); ++shared) {
            ASSERT_LT(shared, 3U);
            live.pulses_felt_at.store(0);  // a second later
            Taken t;
            ASSERT_EQ(other.get(test.limit(), t), GetResult::kOk);
            ASSERT_EQ(other.put_private(t), PutResult::kOk);
        }
        EXPECT_EQ(shared, 2U);
    }
    EXPECT_EQ(live.waiters.load(), 0U);  // not once more at its end
}

TEST(Waiting, PulsesAreFeltOnceInAWhile) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    Registration waiter(live, lane.record());
    (void)waiter.enlist();
    look_twice(test.pool());
    EXPECT_FALSE(waiter.is_counted());
    (void)waiter.enlist();
    for (int k = 0; k < 100; ++k) {
        live.pulses_felt_at.store(monotonic_ns());
        take_out_the_stopped(test.pool());
    }
    EXPECT_TRUE(waiter.is_counted());
}

// A promise that outlived its keeping made those it held back patient in turn, and so on for ever.
TEST(Waiting, PromiseIsMadeByALookInVainAndEndsWithASuccess) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    const WaitSlices at_once{.usual = std::chrono::microseconds{1}, .patience = {}};
    int looks = 0;
    const auto third_time = [&](Turn turn) {
        EXPECT_EQ(turn, Turn::kPatient);
        EXPECT_EQ(live.promised_until.load() != 0, looks != 0);
        return ++looks == 3 ? GetResult::kOk : GetResult::kExhausted;
    };
    EXPECT_EQ(
        wait(test.pool(), lane.record(), MonotonicClock::time_point::max(), third_time, at_once),
        GetResult::kOk);
    EXPECT_EQ(looks, 3);
    EXPECT_EQ(live.promised_until.load(), 0U);
}

TEST(Waiting, WhoGivesUpPassesItsWakeOn) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    live.waiters.store(1);  // somebody else
    const auto in_vain = [](Turn) { return GetResult::kExhausted; };
    EXPECT_EQ(wait(test.pool(), lane.record(), MonotonicClock::time_point::min(), in_vain),
              GetResult::kExhausted);
    EXPECT_EQ(live.wake_sequence.load(), 1U);
    EXPECT_EQ(live.waiters.load(), 1U);
}

TEST(Waiting, WhoEndsWithAnErrorPassesItsWakeOn) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    live.waiters.store(1);  // somebody else
    const auto fails = [](Turn) { return GetResult::kUnmapped; };
    EXPECT_EQ(wait(test.pool(), lane.record(), MonotonicClock::time_point::max(), fails),
              GetResult::kUnmapped);
    EXPECT_EQ(live.wake_sequence.load(), 1U);
}

TEST(Waiting, WaiterThatWasCorrectedAwayCountsItselfAgain) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Live& live = test.pool().live();
    int looks = 0;
    const auto look = [&](Turn) {
        EXPECT_EQ(live.waiters.load(), 1U);
        live.waiters.store(0);  // as the daemon may
        return ++looks == 3 ? GetResult::kOk : GetResult::kExhausted;
    };
    EXPECT_EQ(wait(test.pool(), lane.record(), MonotonicClock::time_point::max(), look,
                   {.usual = std::chrono::microseconds{1}}),
              GetResult::kOk);
    EXPECT_EQ(live.waiters.load(), 0U);
}

TEST(Waiting, PromiseBindsThoseWhoseTurnItIsNotAndNobodyElse) {
    TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    Taken t;
    Live& live = test.pool().live();
    live.promised_until.store(monotonic_ns() + kLongestPromiseNs);
    EXPECT_EQ(lane.get(test.limit(), t), GetResult::kOk);  // nobody waits
    lane.close();
    ASSERT_TRUE(lane.open());
    live.waiters.store(1);
    live.promised_until.store(~std::uint64_t{0});  // foreign bytes
    Lane other = test.open(LaneId{2}, ClientId{2});
    EXPECT_EQ(other.get(test.limit(), t), GetResult::kOk);
    live.promised_until.store(0);  // past
    Lane third = test.open(LaneId{3}, ClientId{3});
    EXPECT_EQ(third.get(test.limit(), t), GetResult::kOk);
    GetResult usual = GetResult::kOk;
    for (int k = 0; k < 1000 && usual == GetResult::kOk; ++k) {  // until it was not preempted
        third.close();
        ASSERT_TRUE(third.open());
        live.promised_until.store(monotonic_ns() + kLongestPromiseNs);
        usual = third.get(test.limit(), t);
    }
    EXPECT_EQ(usual, GetResult::kExhausted);
    live.promised_until.store(monotonic_ns() + kLongestPromiseNs);
    EXPECT_EQ(third.get(test.limit(), t, Turn::kPatient), GetResult::kOk);
}

}  // namespace
}  // namespace mempool::shm
