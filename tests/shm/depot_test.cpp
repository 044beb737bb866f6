// The depot: claims before removals, hints that are stale, double, foreign or missing.
#include "mempool/shm/depot/depot.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::TestPool;

constexpr LaneId kLane{1};

MagazineWord word_of(const Pool& pool, MagazineId m) {
    return MagazineWord{pool.magazine(m).word.load()};
}

TEST(Depot, HandsOutMagazinesInTheOrderOfTheirSlots) {
    TestPool test({.slots = 10, .capacity = 4});
    Depot depot(test.pool());
    const MagazineId first = depot.claim_full(kLane);
    const MagazineId second = depot.claim_full(kLane);
    const MagazineId third = depot.claim_full(kLane);
    EXPECT_EQ(depot.count(first), 4U);
    EXPECT_EQ(depot.count(second), 4U);
    EXPECT_EQ(depot.count(third), 2U);
    EXPECT_EQ(depot.claim_full(kLane), kNoMagazine);
    EXPECT_EQ(word_of(test.pool(), first).state(), MagazineState::kOwned);
    EXPECT_EQ(word_of(test.pool(), first).lane(), kLane);
    depot.give(first);
    EXPECT_EQ(word_of(test.pool(), first).state(), MagazineState::kFull);
    EXPECT_EQ(depot.claim_full(kLane), first);
}

TEST(Depot, VersionGrowsAtClaimAndGive) {
    TestPool test;
    Depot depot(test.pool());
    const MagazineId m = depot.claim_full(kLane);
    const std::uint32_t claimed = word_of(test.pool(), m).version();
    depot.give(m);
    EXPECT_EQ(word_of(test.pool(), m).version(), claimed + 1);
}

TEST(Depot, SortsWhatIsGivenByWhetherItHasSlots) {
    TestPool test;
    Depot depot(test.pool());
    const MagazineId m = depot.claim_room(kLane);
    EXPECT_EQ(depot.count(m), 0U);
    depot.give(m);
    EXPECT_EQ(word_of(test.pool(), m).state(), MagazineState::kEmpty);
    const MagazineId full = depot.claim_full(kLane);
    test.pool().magazine(full).count.store(0);
    depot.give(full);
    EXPECT_EQ(word_of(test.pool(), full).state(), MagazineState::kEmpty);
}

// Takes every empty magazine out of the depot, into `lane`.
std::vector<MagazineId> claim_all_empty(Depot& depot, LaneId lane) {
    std::vector<MagazineId> claimed;
    for (;;) {
        const MagazineId m = depot.claim_room(lane);
        if (m == kNoMagazine || depot.count(m) != 0) {
            if (m != kNoMagazine) {
                depot.give(m);
            }
            return claimed;
        }
        claimed.push_back(m);
    }
}

TEST(Depot, RoomIsFoundInAMagazineThatIsNotFullWhenNoneIsEmpty) {
    TestPool test({.slots = 14, .capacity = 4});  // 4, 4, 4 and 2
    Depot depot(test.pool());
    claim_all_empty(depot, kLane);
    const MagazineId m = depot.claim_room(kLane);
    ASSERT_NE(m, kNoMagazine);
    EXPECT_EQ(depot.count(m), 2U);
    EXPECT_EQ(depot.claim_room(kLane), kNoMagazine);  // all others are full: it says so, and ends
    EXPECT_EQ(rehint(test.pool()), 0U);
}

TEST(Depot, StaleAndForeignHintsArePassedOver) {
    TestPool test({.slots = 8, .capacity = 4});
    Depot depot(test.pool());
    const MagazineId a = depot.claim_full(kLane);
    const MagazineId b = depot.claim_full(kLane);
    Ring full(test.pool(), full_ring(0));
    ASSERT_TRUE(full.push(a));                                                  // owned: stale
    ASSERT_TRUE(full.push(MagazineId{test.pool().geometry().magazine_count}));  // out of range
    ASSERT_TRUE(full.push(MagazineId{~0U}));
    ASSERT_TRUE(full.push(MagazineId{test.pool().geometry().magazine_count - 1}));  // never made
    depot.give(b);
    ASSERT_TRUE(full.push(b));  // doubled
    EXPECT_EQ(depot.claim_full(kLane), b);
    EXPECT_EQ(depot.claim_full(kLane), kNoMagazine);
    EXPECT_EQ(full.peek().magazine, kNoMagazine);
}

TEST(Depot, HintOfTheOtherKindIsPassedOver) {
    TestPool test({.slots = 4, .capacity = 4});
    Depot depot(test.pool());
    Ring empty(test.pool(), empty_ring(0));
    claim_all_empty(depot, kLane);
    const MagazineId full = depot.claim_full(kLane);
    depot.give(full);
    ASSERT_TRUE(empty.push(full));
    EXPECT_EQ(depot.claim_room(kLane), kNoMagazine);
    EXPECT_EQ(depot.claim_full(kLane), full);
}

TEST(Depot, ClaimFailsWhenTheWordMovedOn) {
    TestPool test;
    Depot depot(test.pool());
    const MagazineId m = depot.claim_full(kLane);
    depot.give(m);
    const MagazineWord seen = word_of(test.pool(), m);
    ASSERT_TRUE(depot.try_claim(m, seen, LaneId{2}));
    EXPECT_FALSE(depot.try_claim(m, seen, kLane));
    depot.give(m);  // FULL again, a version later
    EXPECT_FALSE(depot.try_claim(m, seen, kLane));
}

TEST(Depot, MissingHintIsPushedOnceByRehint) {
    TestPool test({.slots = 8, .capacity = 4});
    Depot depot(test.pool());
    const MagazineId m = depot.claim_full(kLane);
    MagazineHead& magazine = test.pool().magazine(m);
    magazine.word.store(word_of(test.pool(), m).next(MagazineState::kFull).bits);  // and died
    EXPECT_EQ(rehint(test.pool()), 1U);
    EXPECT_EQ(rehint(test.pool()), 0U);
    EXPECT_EQ(test::fault_at_rest(test, 0), "");
}

TEST(Depot, CountIsBoundedByTheCapacityWhateverStandsThere) {
    TestPool test;
    Depot depot(test.pool());
    const MagazineId m = depot.claim_full(kLane);
    test.pool().magazine(m).count.store(~0U);
    EXPECT_EQ(depot.count(m), test.pool().magazine_capacity());
}

TEST(Depot, EmptyMagazineWithAForeignCountIsNotTakenForRoom) {
    TestPool test;
    Depot depot(test.pool());
    const MagazineId first = depot.claim_room(kLane);
    depot.give(first);
    for (std::uint32_t m = 1; m < test.pool().magazine_limit(); ++m) {
        MagazineHead& magazine = test.pool().magazine(MagazineId{m});
        if (MagazineWord{magazine.word.load()}.state() == MagazineState::kEmpty &&
            MagazineId{m} != first) {
            magazine.count.store(~0U);
        }
    }
    const MagazineId m = depot.claim_room(kLane);
    ASSERT_NE(m, kNoMagazine);
    EXPECT_LT(depot.count(m), test.pool().magazine_capacity());
}

TEST(Depot, WakeChangesTheSequenceThatWaitersSleepOn) {
    TestPool test;
    Depot depot(test.pool());
    Live& live = test.pool().live();
    depot.wake(1);
    EXPECT_EQ(live.wake_sequence.load(), 0U);  // nobody waits
    live.waiters.store(1);
    depot.wake(0);
    EXPECT_EQ(live.wake_sequence.load(), 0U);  // nothing was given
    depot.wake(1);
    EXPECT_EQ(live.wake_sequence.load(), 1U);
}

// Threads that return one slot and end leave one magazine each with a slot or two, all in their own
// shard; a lane of another, whose ring is never empty of full ones, must find them.
TEST(Depot, RoomIsFoundInOtherShardsBesideFullMagazines) {
    for (std::uint16_t shards = 1; shards <= 16; shards = static_cast<std::uint16_t>(2 * shards)) {
        TestPool test({.slots = 1024, .capacity = 16, .client_count = 3, .shards = shards});
        Lane getter = test.open(LaneId{4}, ClientId{1});
        Lane other = test.open(LaneId{6}, ClientId{1});
        std::vector<Taken> held = test::get_all(other, test.limit(), 64);
        for (int k = 0; k < 300; ++k) {
            Taken t;
            ASSERT_EQ(getter.get(test.limit(), t), GetResult::kOk) << k;
            Lane returner = test.open(LaneId{5}, ClientId{1});
            ASSERT_EQ(returner.put_private(t), PutResult::kOk) << shards << " shards, " << k;
            returner.close();
            free_lane(test.pool(), LaneId{5});
        }
        for (const Taken& t : held) {
            ASSERT_EQ(other.put_private(t), PutResult::kOk) << shards << " shards";
        }
    }
}

// I4: claims come first. Lanes claim and give, with room wanted as often as slots; the magazines
// are as few as can be.
TEST(DepotStress, MagazinesHaveOneOwnerAndRoomIsAlwaysFound) {
    constexpr std::uint32_t kThreads = 4;
    TestPool test({.slots = 8, .capacity = 1, .client_count = 2, .shards = 2});
    const Pool& pool = test.pool();
    // Only as many magazines as these lanes need stay in the depot.
    Depot hoard(pool);
    const std::uint32_t spare = (pool.geometry().lane_count - kThreads) * kMagazinesPerLane;
    for (std::uint32_t k = 0; k < spare; ++k) {
        ASSERT_NE(hoard.claim_room(kDaemonLane), kNoMagazine);
    }
    std::vector<std::atomic<std::uint32_t>> owner(pool.geometry().magazine_count);
    std::vector<std::thread> threads;
    for (std::uint32_t t = 1; t <= kThreads; ++t) {
        threads.emplace_back([&, t] {
            Depot depot(pool, t);
            const auto mine = [&](MagazineId m) { EXPECT_EQ(owner[raw(m)].exchange(t), 0U); };
            const auto back = [&](MagazineId m) {
                EXPECT_EQ(owner[raw(m)].exchange(0), t);
                depot.give(m);
            };
            for (int k = 0; k < 4000; ++k) {
                const MagazineId full = depot.claim_full(LaneId{t});
                if (full != kNoMagazine) {
                    mine(full);
                }
                if (k % 2 == 0 && full != kNoMagazine) {
                    // What a get does: the slot is out now, so there is one more with room.
                    pool.magazine(full).count.store(0);
                    const MagazineId room = depot.claim_room(LaneId{t});
                    EXPECT_NE(room, kNoMagazine);
                    if (room != kNoMagazine) {
                        mine(room);
                        back(room);
                    }
                    pool.magazine(full).count.store(1);
                }
                if (full != kNoMagazine) {
                    back(full);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    std::uint32_t full = 0;
    for (Depot depot(pool); depot.claim_full(kLane) != kNoMagazine;) {
        ++full;
    }
    EXPECT_EQ(full, 8U);
}

}  // namespace
}  // namespace mempool::shm
