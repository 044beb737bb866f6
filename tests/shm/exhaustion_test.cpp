// Exhausted is said only of a pool that is, however slots move while one looks for them.
#include "mempool/shm/lane/exhaustion.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "mempool/shm/lane/lane.hpp"
#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::get_all;
using test::TestPool;

class ExhaustionTest : public testing::Test {
protected:
    [[nodiscard]] GetResult get() {
        Taken taken;
        return seeker_.get(test_.limit(), taken);
    }

    TestPool test_{{.slots = 8, .capacity = 2, .shards = 4}};
    Lane holder_ = test_.open(LaneId{1}, ClientId{1});
    Lane seeker_ = test_.open(LaneId{2}, ClientId{2});
    std::vector<Taken> held_ = get_all(holder_, test_.limit());
};

TEST_F(ExhaustionTest, IsSaidWhileOthersHoldAll) {
    ASSERT_EQ(held_.size(), 8U);
    EXPECT_EQ(get(), GetResult::kExhausted);
    EXPECT_EQ(seeker_.record().busy.load(), kIdle);
}

TEST_F(ExhaustionTest, IsNotSaidWhileAnotherIsAtWork) {
    holder_.record().busy.store(kAtWork);
    EXPECT_EQ(get(), GetResult::kBusy);
    holder_.record().busy.store(kIdle);
    EXPECT_EQ(get(), GetResult::kExhausted);
}

// Two that find the pool exhausted must be able to say so.
TEST_F(ExhaustionTest, IsSaidWhileAnotherSearches) {
    holder_.record().busy.store(kSearching);
    EXPECT_EQ(get(), GetResult::kExhausted);
}

TEST_F(ExhaustionTest, ASearchIsFollowedByWorkAgain) {
    ASSERT_EQ(get(), GetResult::kExhausted);
    ASSERT_EQ(holder_.put_private(held_[3]), PutResult::kOk);
    EXPECT_EQ(get(), GetResult::kOk);
    EXPECT_EQ(seeker_.record().steals.load(), 1U);
}

TEST_F(ExhaustionTest, WhatIsInAnyShardIsFound) {
    for (std::uint32_t shard = 0; shard < test_.pool().shard_count(); ++shard) {
        Depot depot(test_.pool(), shard);
        const MagazineId room = depot.claim_room(kDaemonLane);
        ASSERT_NE(room, kNoMagazine);
        // As a put into it.
        const Taken t = held_.back();
        held_.pop_back();
        Pool::items(test_.pool().magazine(room))[0].store(raw(t.index));
        test_.pool().word(t.index).store(SlotWord::free(t.generation, room).bits);
        test_.pool().magazine(room).count.store(1);
        depot.give(room);
        EXPECT_EQ(get(), GetResult::kOk) << shard;
        EXPECT_EQ(get(), GetResult::kExhausted) << shard;
    }
}

// No daemon runs here, which would push the hint again.
TEST_F(ExhaustionTest, AMagazineWithoutAHintIsFoundInTheEnd) {
    DaemonDepot depot(test_.pool());
    const MagazineId room = depot.claim_room();
    ASSERT_NE(room, kNoMagazine);
    const Taken t = held_.back();
    Pool::items(test_.pool().magazine(room))[0].store(raw(t.index));
    test_.pool().word(t.index).store(SlotWord::free(t.generation, room).bits);
    MagazineHead& magazine = test_.pool().magazine(room);
    magazine.count.store(1);
    magazine.word.store(MagazineWord{magazine.word.load()}.next(MagazineState::kFull).bits);
    EXPECT_EQ(get(), GetResult::kOk);
}

// Movers have one slot out at a time and send the others round; the seeker has one out, too, and
// returns it by another lane, so that it finds its own magazines empty. Of one slot more than that
// it may never be told that there is none.
void never_exhausted(const test::PoolOptions& options, std::uint32_t movers) {
    constexpr int kGets = 20'000;
    TestPool test(options);
    ASSERT_EQ(test.slots(), movers + 2);
    Lane seeker = test.open(LaneId{1}, ClientId{1});
    Lane returner = test.open(LaneId{2}, ClientId{1});
    std::vector<Lane> lanes;
    for (std::uint32_t t = 0; t < movers; ++t) {
        lanes.push_back(test.open(LaneId{3 + t}, ClientId{2 + t}));
    }
    std::atomic<bool> stop{false};
    std::vector<std::thread> running;
    for (std::uint32_t t = 0; t < movers; ++t) {
        running.emplace_back([&, t] {
            Lane& lane = lanes[t];
            std::mt19937 random(t);
            while (!stop.load(std::memory_order_relaxed)) {
                Taken taken;
                if (lane.get(test.limit(), taken) != GetResult::kOk) {
                    continue;
                }
                if (random() % 2 == 0) {
                    lane.share();  // into the depot, as for one who waits
                }
                EXPECT_EQ(lane.put_private(taken), PutResult::kOk);
                if (random() % 2 == 0) {
                    lane.share();
                }
            }
        });
    }
    std::uint32_t exhausted = 0;
    for (int got = 0; got < kGets;) {
        Taken taken;
        const GetResult result = seeker.get(test.limit(), taken);
        exhausted += result == GetResult::kExhausted ? 1U : 0U;
        if (result == GetResult::kOk) {
            ++got;
            EXPECT_EQ(returner.put_private(taken), PutResult::kOk);
            returner.share();
        } else {
            std::this_thread::yield();  // a mover may have lost its processor while at work
        }
    }
    stop.store(true);
    for (std::thread& thread : running) {
        thread.join();
    }
    EXPECT_EQ(exhausted, 0U);
}

TEST(ExhaustionStress, IsNotSaidWhileSlotsMoveAmongRingsAndLanes) {
    never_exhausted({.slots = 3, .capacity = 1, .client_count = 5, .shards = 8}, 1);
    never_exhausted({.slots = 4, .capacity = 1, .client_count = 5, .shards = 4}, 2);
}

TEST(ExhaustionStress, IsNotSaidWhileMagazinesMoveInOneShard) {
    never_exhausted({.slots = 4, .capacity = 2, .client_count = 6}, 2);
}

}  // namespace
}  // namespace mempool::shm
