// Repair: each kind of damage planted, mended, and nothing of a live client touched.
#include "mempool/shm/recovery/repair.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::fault_at_rest;
using test::get_all;
using test::magazine_in_depot;
using test::TestPool;

constexpr ClientId kHolder{2};
constexpr LaneId kHolderLane{2};

// A live client that holds five slots and caches others.
class RepairTest : public testing::Test {
protected:
    RepairTest() : held_(get_all(lane_, test_.limit(), 5)) {}

    [[nodiscard]] bool is_attached(ClientId c) const {
        return raw(c) < pool_.geometry().shape.client_count &&
               pool_.client(c).state.load() == ClientState::kActive;
    }
    Repaired mend(bool alone = false) {
        return repair(
            pool_, [this](ClientId c) { return !is_attached(c); }, alone, nullptr);
    }
    // As if the client had ended: what it held is free, its records too.
    void end_holder() { test_.bury(kHolder); }

    // A repair mends exactly `count` of `fault`, and then the pool is as it should be.
    void expect_mended(Fault fault, std::uint64_t count, std::uint64_t held = 5,
                       bool alone = false) {
        Repaired done = mend(alone);
        EXPECT_EQ(done[fault], count) << test::name_of(fault);
        EXPECT_EQ(done.total(), count);
        EXPECT_EQ(mend(alone).total(), 0U) << "a second repair found more";
        EXPECT_EQ(fault_at_rest(test_, held), "");
    }
    // Nothing is changed, and the audit still shows it.
    void expect_left(Fault fault, std::uint32_t where) {
        EXPECT_EQ(mend().total(), 0U);
        const std::vector<Finding> findings = audit(pool_, 1).findings;
        ASSERT_EQ(findings.size(), 1U) << test::text_of(findings);
        EXPECT_EQ(findings[0].fault, fault);
        EXPECT_EQ(findings[0].where, where);
    }
    void expect_holder_works() {
        for (const Taken& t : held_) {
            EXPECT_EQ(lane_.put_private(t), PutResult::kOk);
        }
        held_ = get_all(lane_, test_.limit(), 5);
        EXPECT_EQ(held_.size(), 5U);
        EXPECT_EQ(fault_at_rest(test_, 5), "");
    }
    MagazineHead& magazine(MagazineId m) { return pool_.magazine(m); }

    TestPool test_;
    const Pool& pool_ = test_.pool();
    Lane lane_ = test_.open(kHolderLane, kHolder);
    std::vector<Taken> held_;
};

TEST_F(RepairTest, OfASoundPoolChangesNothing) {
    EXPECT_EQ(mend().total(), 0U);
    expect_holder_works();
}

TEST_F(RepairTest, SlotsOfANobodyAreFreed) {
    Lane other = test_.open(LaneId{3}, ClientId{3});
    const std::vector<Taken> theirs = get_all(other, test_.limit(), 3);
    pool_.word(theirs[0].index).store(SlotWord::held(Generation{9}, ClientId{1}).bits);
    pool_.word(theirs[1].index).store(SlotWord::held(Generation{9}, ClientId{1}).bits);
    expect_mended(Fault::kSlotHolder, 2, 5 + 1);
}

TEST_F(RepairTest, ASlotThatNoMagazineListsIsListedAgain) {
    const MagazineId m = magazine_in_depot(pool_);
    const SlotIndex lost{Pool::items(magazine(m))[magazine(m).count.load() - 1].load()};
    magazine(m).count.fetch_sub(1);
    expect_mended(Fault::kMagazineItem, 1);
    const MagazineId again = magazine_in_depot(pool_);
    magazine(again).count.fetch_sub(1);
    Pool::items(magazine(again))[magazine(again).count.load()].store(~0U);
    expect_mended(Fault::kSlotUnlisted, 1);
    EXPECT_EQ(SlotWord{pool_.word(lost).load()}.state(), SlotState::kFree);
}

TEST_F(RepairTest, ASlotInAMagazineThatCannotBeIsListedAgain) {
    const SlotIndex i{Pool::items(magazine(magazine_in_depot(pool_)))[0].load()};
    pool_.word(i).store(SlotWord::free(Generation{3}, MagazineId{kMaxPlace}).bits);
    Repaired done = mend();
    EXPECT_EQ(done[Fault::kSlotUnlisted], 1U);
    EXPECT_EQ(done[Fault::kMagazineItem], 1U);
    EXPECT_EQ(mend().total(), 0U);
    EXPECT_EQ(fault_at_rest(test_, 5), "");
}

TEST_F(RepairTest, AnImpossibleCountAndForeignItemsAreSortedOut) {
    const MagazineId m = magazine_in_depot(pool_);
    magazine(m).count.store(~0U);
    expect_mended(Fault::kMagazineItem, 1);
    const MagazineId other = magazine_in_depot(pool_);
    Pool::items(magazine(other))[0].store(raw(held_[0].index));
    Repaired done = mend();
    EXPECT_EQ(done[Fault::kMagazineItem], 1U);
    EXPECT_EQ(done[Fault::kSlotUnlisted], 1U);
    expect_holder_works();
}

TEST_F(RepairTest, AMagazineOfANobodyIsTakenBack) {
    Depot depot(pool_);
    ASSERT_NE(depot.claim_full(LaneId{5}), kNoMagazine);
    expect_mended(Fault::kMagazineOwner, 1);
}

TEST_F(RepairTest, AWordThatALiveLaneNamesIsItsAgain) {
    const std::uint64_t of_no_lane =
        MagazineWord::make(7, MagazineState::kOwned, LaneId{kMaxPlace}).bits;
    for (const std::uint64_t garbage :
         std::vector<std::uint64_t>{0, ~std::uint64_t{0}, 0x77, of_no_lane}) {
        const MagazineId loaded = lane_.loaded();
        magazine(loaded).word.store(garbage);
        Repaired done = mend();
        EXPECT_EQ(done[Fault::kMagazineState], 1U);
        EXPECT_EQ(done.total(), 1U);
        const MagazineWord word{magazine(loaded).word.load()};
        EXPECT_EQ(word.state(), MagazineState::kOwned);
        EXPECT_EQ(word.lane(), kHolderLane);
        expect_holder_works();
    }
}

TEST_F(RepairTest, AWordThatNoLaneNamesMakesItsMagazineFree) {
    magazine(magazine_in_depot(pool_)).word.store(0x1234'5678'0000'0099ULL);
    expect_mended(Fault::kMagazineState, 1);
}

TEST_F(RepairTest, AWordThatSomebodyMayBeWorkingWithIsLeft) {
    const MagazineId m = magazine_in_depot(pool_);
    magazine(m).word.store(0x99);
    lane_.record().busy.store(1);  // it may have claimed it just now
    expect_left(Fault::kMagazineState, raw(m));
    lane_.record().busy.store(0);
    Lane other = test_.open(LaneId{3}, ClientId{3});
    lane_.record().previous.store(raw(m));
    other.record().previous.store(raw(m));
    expect_left(Fault::kMagazineState, raw(m));
    other.record().previous.store(raw(kNoMagazine));  // one names it, as after a theft
    other.record().busy.store(1);                     // and another has it in its hands
    expect_left(Fault::kMagazineState, raw(m));
}

TEST_F(RepairTest, LanesOfANobodyAreFreed) {
    ASSERT_TRUE(try_claim_lane(pool_, LaneId{7}, ClientId{3}));
    pool_.lane(LaneId{8}).word.store(LaneWord::make(1, LaneState::kOwned, ClientId{1}).bits);
    expect_mended(Fault::kLaneOwner, 2);
}

TEST_F(RepairTest, ALaneInUseIsBackInTheMap) {
    pool_.lane_map(0).store(0);
    expect_mended(Fault::kLaneMap, 1);
}

TEST_F(RepairTest, ALaneInNoKnownStateIsFreedOnceNobodyIsThere) {
    pool_.lane(LaneId{7}).word.store(0x55);
    expect_left(Fault::kLaneState, 7);
    end_holder();
    expect_mended(Fault::kLaneState, 1, 0, true);
}

TEST_F(RepairTest, ALaneOfAnImpossibleClientIsFreedOnceNobodyIsThere) {
    pool_.lane_map(0).fetch_or(1U << 7U);
    pool_.lane(LaneId{7}).word.store(
        LaneWord::make(1, LaneState::kOwned, ClientId{kMaxPlace}).bits);
    expect_left(Fault::kLaneState, 7);
    end_holder();
    expect_mended(Fault::kLaneState, 1, 0, true);
}

TEST_F(RepairTest, ASlotInNoKnownStateIsFreedOnceNobodyIsThere) {
    const SlotIndex i = held_[0].index;
    pool_.word(i).store(SlotWord::held(Generation{9}, ClientId{kMaxPlace}).bits);
    expect_left(Fault::kSlotState, raw(i));
    pool_.word(i).store(0xdead'beef'0000'00aaULL);
    expect_left(Fault::kSlotState, raw(i));
    for (std::size_t k = 1; k < held_.size(); ++k) {
        EXPECT_EQ(lane_.put_private(held_[k]), PutResult::kOk);
    }
    end_holder();
    expect_mended(Fault::kSlotState, 1, 0, true);
}

TEST_F(RepairTest, DetachedSlotsStayDetached) {
    ASSERT_EQ(lane_.detach(held_[0], test_.limit()), PutResult::kOk);
    end_holder();
    EXPECT_EQ(mend(true).total(), 0U);
    EXPECT_EQ(fault_at_rest(test_, 1), "");
}

TEST_F(RepairTest, MissingHintsArePutBack) {
    Depot depot(pool_);
    const MagazineId m = depot.claim_full(kDaemonLane);
    magazine(m).word.store(MagazineWord{magazine(m).word.load()}.next(MagazineState::kFull).bits);
    expect_mended(Fault::kMagazineHint, 1);
}

// Any of these blocks a ring for good: what is in the depot is out of everybody's reach.
TEST_F(RepairTest, ARingWhosePositionsOrCellsAreNonsenseIsMadeAnew) {
    const std::uint32_t cells = pool_.geometry().ring_capacity;
    const std::vector<std::function<void(RingState&, std::atomic<std::uint64_t>*)>> damages = {
        [](RingState& r, auto*) { r.tail.fetch_add(std::uint64_t{1} << 62U); },
        [](RingState& r, auto*) { r.head.fetch_add(std::uint64_t{1} << 62U); },
        [](RingState& r, auto*) { r.head.store(~std::uint64_t{0}), r.tail.store(0); },
        [](RingState& r, auto*) {
            r.head.fetch_add(std::uint64_t{1} << 40U), r.tail.store(r.head);
        },
        [=](RingState& r, auto* c) { c[r.head % cells].store(~std::uint64_t{0}); },
        [=](RingState& r, auto* c) { c[r.tail % cells].store(0x7777'0000'0000ULL); },
        [=](RingState&, auto* c) {
            std::memset(static_cast<void*>(c), 0xa5, std::size_t{8} * cells);
        },
    };
    for (std::size_t k = 0; k < damages.size(); ++k) {
        for (const RingId ring : {full_ring(0), empty_ring(0)}) {
            damages[k](pool_.ring_state(ring), pool_.ring_cells(ring));
            const std::vector<Finding> findings = audit(pool_, 1).findings;
            ASSERT_FALSE(findings.empty()) << k;
            EXPECT_EQ(mend()[Fault::kRing], 1U) << k;
            EXPECT_EQ(mend().total(), 0U) << k;
            ASSERT_EQ(fault_at_rest(test_, 5), "") << k << " ring " << raw(ring);
        }
    }
    expect_holder_works();
}

// Seeds of random bytes over all but the slot words: nothing that a word tells is lost.
TEST_F(RepairTest, WithSoundSlotWordsNothingIsLost) {
    const Geometry& g = pool_.geometry();
    for (std::uint32_t seed = 1; seed <= 200; ++seed) {
        TestPool test;
        std::mt19937_64 random(seed);
        const auto scribble = [&](std::uint64_t from, std::uint64_t to) {
            for (std::uint64_t at = from; at < to; at += 8) {
                if (random() % 4 == 0) {
                    reinterpret_cast<std::atomic<std::uint64_t>*>(test.pool().base() + at)
                        ->store(random() >> (random() % 64));
                }
            }
        };
        scribble(kPage + offsetof(Live, grow_wanted), 2 * kPage);
        scribble(g.lanes_offset + sizeof(LaneRecord), g.records_offset);
        scribble(g.magazines_offset, g.slots_offset);
        for (std::uint32_t c = 1; c < 4; ++c) {
            test.pool().client(ClientId{c}).state.store(ClientState::kFree);
        }
        repair(
            test.pool(), [](ClientId) { return true; }, true, nullptr);
        EXPECT_EQ(repair(
                      test.pool(), [](ClientId) { return true; }, true, nullptr)
                      .total(),
                  0U);
        test.pool().live().waiters.store(0);
        test.pool().live().promised_until.store(0);
        ASSERT_EQ(fault_at_rest(test, 0), "") << "seed " << seed;
        EXPECT_EQ(take_census(test.pool()).free, 16U);
    }
}

TEST_F(RepairTest, ErasesWhatItFrees) {
    const SlotIndex i = held_[0].index;
    pool_.word(i).store(SlotWord::held(Generation{9}, ClientId{3}).bits);
    std::vector<SlotIndex> erased;
    repair(
        pool_, [this](ClientId c) { return !is_attached(c); }, false,
        [&](SlotIndex slot) {
            EXPECT_TRUE(SlotWord{pool_.word(slot).load()}.is_held_by(kDaemonClient));
            erased.push_back(slot);
        });
    EXPECT_EQ(erased, std::vector<SlotIndex>{i});
    EXPECT_EQ(fault_at_rest(test_, 4), "");
}

// Damage planted and mended while threads get and put: each slot that is out is out once, and what
// they hold stays theirs.
TEST(RepairStress, TouchesNothingOfLiveLanes) {
    TestPool test({.slots = 64, .capacity = 4, .client_count = 8, .shards = 4});
    const Pool& pool = test.pool();
    std::vector<std::atomic<std::uint32_t>> users(pool.geometry().index_capacity);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (std::uint32_t c = 2; c < 5; ++c) {
        threads.emplace_back([&, c, lane = test.open(LaneId{c}, ClientId{c})]() mutable {
            while (!stop.load(std::memory_order_acquire)) {
                const std::vector<Taken> mine = get_all(lane, test.limit(), 12);
                for (const Taken& t : mine) {
                    EXPECT_EQ(users[raw(t.index)].exchange(c), 0U);
                }
                std::this_thread::yield();
                for (const Taken& t : mine) {
                    EXPECT_EQ(users[raw(t.index)].exchange(0), c);
                    PutResult result{};
                    do {  // no room while the ring of empty magazines is broken
                        result = lane.put_private(t);
                    } while (result == PutResult::kNoRoom);
                    EXPECT_EQ(result, PutResult::kOk);
                }
            }
            lane.close();
            free_lane(pool, lane.id());
        });
    }
    std::mt19937_64 random(11);
    const auto dead = [&pool](ClientId c) {
        return c != kDaemonClient && pool.client(c).state.load() == ClientState::kFree;
    };
    for (int round = 0; round < 60; ++round) {
        const RingId id{static_cast<std::uint32_t>(random() % pool.geometry().ring_count())};
        RingState& ring = pool.ring_state(id);
        switch (round % 4) {
            case 0:
                ring.tail.fetch_add(std::uint64_t{1} << 50U);
                break;
            case 1:
                ring.head.fetch_add(std::uint64_t{1} << 50U);
                break;
            case 2:
                pool.ring_cells(id)[random() % pool.geometry().ring_capacity].store(random());
                break;
            default:
                pool.lane_map(0).store(0);
        }
        repair(pool, dead, false, nullptr);
    }
    stop.store(true, std::memory_order_release);
    for (std::thread& thread : threads) {
        thread.join();
    }
    repair(pool, dead, false, nullptr);
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

}  // namespace
}  // namespace mempool::shm
