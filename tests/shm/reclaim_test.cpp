// Reclaim: every state a death can leave, made by hand, and taken back with nothing lost.
#include "mempool/shm/recovery/reclaim.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::fault_at_rest;
using test::get_all;
using test::TestPool;

constexpr ClientId kVictim{2};
constexpr LaneId kVictimLane{2};

// A client with slots in its hands and in its lane, that is about to die.
class ReclaimTest : public testing::Test {
protected:
    ReclaimTest() : held_(get_all(lane_, test_.limit(), 5)) {}

    Reclaimed bury() { return test_.bury(kVictim); }
    MagazineHead& loaded() { return pool_.magazine(lane_.loaded()); }
    static MagazineWord word_of(const MagazineHead& m) { return MagazineWord{m.word.load()}; }

    TestPool test_;
    const Pool& pool_ = test_.pool();
    Lane lane_ = test_.open(kVictimLane, kVictim);
    std::vector<Taken> held_;
};

TEST_F(ReclaimTest, TakesBackSlotsMagazinesAndLanes) {  // I5
    const Reclaimed done = bury();
    EXPECT_EQ(done.slots, 5U);
    EXPECT_EQ(done.magazines, 2U);
    EXPECT_EQ(done.lanes, 1U);
    EXPECT_EQ(pool_.live().reclaimed.load(), 5U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

// Between two segments lie indices that are no slots, whatever somebody wrote there.
TEST(ReclaimGap, ForeignWordBetweenSegmentsIsNoSlot) {
    test::TestPool test({.slots = 5, .max_slots = 200});
    test.grow(7);
    const std::uint32_t gap = test.pool().segment(0).end_index();
    ASSERT_LT(gap, test.pool().segment(1).first_index);
    test.attach(ClientId{2});
    test.pool().word(SlotIndex{gap}).store(SlotWord::held(Generation{1}, ClientId{2}).bits);
    EXPECT_EQ(test.bury(ClientId{2}).slots, 0U);
    Lane other = test.open(LaneId{3}, ClientId{3});
    EXPECT_EQ(get_all(other, test.limit()).size(), 12U);
}

TEST_F(ReclaimTest, LeavesNoTagOfTheDead) {
    pool_.record(held_[0].index).tag.store(7);
    bury();
    EXPECT_EQ(pool_.record(held_[0].index).tag.load(), 0U);
}

TEST_F(ReclaimTest, LeavesWhatHasAnImpossibleHolder) {
    const SlotWord foreign = SlotWord::held(held_[0].generation, ClientId{kMaxPlace});
    pool_.word(held_[0].index).store(foreign.bits);
    EXPECT_EQ(bury().slots, held_.size() - 1);
    EXPECT_EQ(pool_.word(held_[0].index).load(), foreign.bits);
}

TEST_F(ReclaimTest, FindsNothingTheSecondTime) {
    bury();
    const Reclaimed again = bury();
    EXPECT_EQ(again.slots, 0U);
    EXPECT_EQ(again.magazines, 0U);
    EXPECT_EQ(again.lanes, 0U);
    EXPECT_EQ(again.hints, 0U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, MakesHandlesOfTheDeadStale) {  // I2
    Lane other = test_.open(LaneId{3}, ClientId{3});
    for (const Taken& t : held_) {
        ASSERT_EQ(lane_.show(t), PutResult::kOk);
    }
    EXPECT_EQ(bury().slots, held_.size());
    for (Taken& t : held_) {
        EXPECT_EQ(other.put(t, test_.limit()), PutResult::kStale);
        EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kStale);
    }
    // Nor do they fit by chance once the slots are out again.
    const std::vector<Taken> all = get_all(other, test_.limit());
    EXPECT_EQ(all.size(), 16U);
    for (const Taken& t : held_) {
        EXPECT_EQ(other.put(t, test_.limit()), PutResult::kStale);
    }
}

TEST_F(ReclaimTest, LeavesTheLivingAndTheDetachedAlone) {
    Lane other = test_.open(LaneId{3}, ClientId{3});
    const std::vector<Taken> theirs = get_all(other, test_.limit(), 3);
    ASSERT_EQ(theirs.size(), 3U);
    ASSERT_EQ(lane_.show(held_[0]), PutResult::kOk);
    ASSERT_EQ(other.adopt(held_[0], test_.limit()), PutResult::kOk);
    ASSERT_EQ(lane_.detach(held_[1], test_.limit()), PutResult::kOk);
    EXPECT_EQ(bury().slots, 3U);
    const Census census = take_census(pool_);
    EXPECT_EQ(census.held_by[3], 4U);
    EXPECT_EQ(census.detached, 1U);
    EXPECT_EQ(other.put_private(held_[0]), PutResult::kOk);
    EXPECT_EQ(other.put(held_[1], test_.limit()), PutResult::kOk);
    EXPECT_EQ(fault_at_rest(test_, 3), "");
}

TEST_F(ReclaimTest, LanesOfAllKindsOfTheDeadClientAreFreed) {
    for (const std::uint32_t l : {4U, 9U}) {
        Lane more = test_.open(LaneId{l}, kVictim);
        Taken t;
        EXPECT_EQ(more.get(test_.limit(), t), GetResult::kOk);
    }
    ASSERT_TRUE(try_claim_lane(pool_, LaneId{5}, kVictim));  // claimed, and died before open()
    const Reclaimed done = bury();
    EXPECT_EQ(done.lanes, 4U);
    EXPECT_EQ(done.slots, 7U);
    EXPECT_EQ(done.magazines, 6U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

// --- the states between two steps ---------------------------------------------------------------

TEST_F(ReclaimTest, DeathBetweenWordAndCountOfAGet) {
    const std::uint32_t top = loaded().count.load() - 1;
    const SlotIndex i{Pool::items(loaded())[top].load()};
    const SlotWord seen{pool_.word(i).load()};
    pool_.word(i).store(SlotWord::held(next(seen.generation()), kVictim).bits);
    EXPECT_EQ(bury().slots, 6U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, DeathBetweenWordAndCountOfAPut) {  // I1
    const std::uint32_t count = loaded().count.load();
    Pool::items(loaded())[count].store(raw(held_[0].index));
    pool_.word(held_[0].index).store(SlotWord::free(held_[0].generation, lane_.loaded()).bits);
    EXPECT_EQ(bury().slots, 4U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, DeathBeforeTheWordOfAPut) {
    Pool::items(loaded())[loaded().count.load()].store(raw(held_[0].index));
    EXPECT_EQ(bury().slots, 5U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, DeathBetweenClaimAndRemovalOfTheHint) {
    Depot depot(pool_);
    const Hint hint = Ring(pool_, full_ring(0)).peek();
    ASSERT_NE(hint.magazine, kNoMagazine);
    ASSERT_TRUE(
        depot.try_claim(hint.magazine, word_of(pool_.magazine(hint.magazine)), kVictimLane));
    EXPECT_EQ(bury().magazines, 3U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, DeathBetweenGivingAMagazineAndItsHint) {
    // The exchange of make_room(): the third magazine is claimed, one is given without its hint.
    Depot depot(pool_);
    const MagazineId third = depot.claim_full(kVictimLane);
    MagazineHead& magazine = pool_.magazine(third);
    magazine.word.store(word_of(magazine).next(MagazineState::kFull).bits);
    EXPECT_EQ(bury().hints, 1U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, DeathBetweenClosingALaneAndFreeingIt) {
    lane_.close();
    const Reclaimed done = bury();
    EXPECT_EQ(done.magazines, 0U);
    EXPECT_EQ(done.lanes, 1U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, MagazineOfALaneNobodyOwnsIsTakenBack) {
    // The daemon died after it freed the lane in a reclaim whose magazine scan was overwritten.
    lane_.close();
    Depot depot(pool_);
    ASSERT_NE(depot.claim_full(kVictimLane), kNoMagazine);
    free_lane(pool_, kVictimLane);
    EXPECT_EQ(bury().magazines, 1U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, MagazineWordOverwrittenIsMended) {
    MagazineHead& magazine = pool_.magazine(lane_.loaded());
    for (const std::uint64_t garbage : {~0ULL, 0ULL, 0x77ULL}) {
        magazine.word.store(garbage);
        bury();
        EXPECT_EQ(audit(pool_, 0).findings.size(), 0U) << garbage;
    }
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, MagazineOfALaneThatDoesNotExistIsTakenBack) {
    loaded().word.store(MagazineWord::make(77, MagazineState::kOwned, LaneId{kMaxPlace}).bits);
    const Reclaimed done = bury();
    EXPECT_EQ(done.magazines, 1U);
    EXPECT_EQ(done.words, 1U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, ForeignItemsAndCountOfADeadMagazineAreSortedOut) {
    loaded().count.store(~0U);
    std::atomic<std::uint32_t>* items = Pool::items(loaded());
    const std::uint32_t free = items[0].load();
    items[1].store(~0U);
    items[2].store(raw(held_[0].index));
    items[3].store(free);  // twice
    bury();
    // Slots whose item was overwritten are found by nobody; the audit says which.
    std::uint64_t unlisted = 0;
    for (const Finding& f : audit(pool_, 0).findings) {
        EXPECT_EQ(f.fault, Fault::kSlotUnlisted);
        ++unlisted;
    }
    EXPECT_EQ(take_census(pool_).free, 16U);
    Lane other = test_.open(LaneId{3}, ClientId{3});
    EXPECT_EQ(get_all(other, test_.limit()).size(), 16U - unlisted);
}

// --- erasing, and a daemon that is cut off ------------------------------------------------------

TEST_F(ReclaimTest, ErasesEachSlotWhileTheDaemonHoldsIt) {
    std::vector<SlotIndex> erased;
    const Reclaimed done = reclaim(
        pool_, [](ClientId c) { return c == kVictim; },
        [&](SlotIndex i) {
            EXPECT_TRUE(SlotWord{pool_.word(i).load()}.is_held_by(kDaemonClient));
            erased.push_back(i);
        });
    EXPECT_EQ(done.slots, 5U);
    EXPECT_EQ(erased.size(), 5U);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, CutOffAnywhereIsFinishedByTheNext) {
    for (std::size_t cut = 0; cut < 5; ++cut) {
        TestPool test;
        Lane lane = test.open(kVictimLane, kVictim);
        ASSERT_EQ(get_all(lane, test.limit(), 5).size(), 5U);
        std::size_t erased = 0;
        EXPECT_THROW(reclaim(
                         test.pool(), [](ClientId c) { return c == kVictim; },
                         [&](SlotIndex) {
                             if (erased++ == cut) {
                                 throw std::runtime_error("cut off");
                             }
                         }),
                     std::runtime_error);
        // What a daemon that starts does: the former daemon is dead as well.
        const auto dead = [](ClientId c) { return c == kVictim || c == kDaemonClient; };
        const Reclaimed rest = reclaim(test.pool(), dead, [](SlotIndex) {});
        EXPECT_EQ(rest.slots, 5U) << "none of a batch is free before all of it is erased";
        EXPECT_EQ(fault_at_rest(test, 0), "");
    }
}

TEST_F(ReclaimTest, WhatADeadDaemonHadInItsHandsIsTakenBack) {
    Lane daemon = test_.open(kDaemonLane, kDaemonClient);
    ASSERT_EQ(get_all(daemon, test_.limit(), 3).size(), 3U);
    const auto dead = [](ClientId c) { return c == kVictim || c == kDaemonClient; };
    const Reclaimed done = reclaim(pool_, dead, nullptr);
    EXPECT_EQ(done.slots, 8U);
    EXPECT_EQ(done.magazines, 4U);
    EXPECT_EQ(LaneWord{pool_.lane(kDaemonLane).word.load()}.state(), LaneState::kOwned);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

// --- detached slots ---------------------------------------------------------------------------

TEST_F(ReclaimTest, OfDetachedSlotsTakesThoseThatAreOldEnough) {
    pool_.live().now.store(2000);
    ASSERT_EQ(lane_.detach(held_[0], test_.limit()), PutResult::kOk);
    pool_.live().now.store(2010);
    ASSERT_EQ(lane_.detach(held_[1], test_.limit()), PutResult::kOk);
    EXPECT_EQ(reclaim_detached(pool_, 1999, nullptr), 0U);
    EXPECT_EQ(reclaim_detached(pool_, 2000, nullptr), 1U);
    EXPECT_EQ(lane_.adopt(held_[0], test_.limit()), PutResult::kStale);
    EXPECT_EQ(lane_.adopt(held_[1], test_.limit()), PutResult::kOk);
    EXPECT_EQ(reclaim_detached(pool_, ~0U, nullptr), 0U);  // held again, and the others always were
    bury();
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST_F(ReclaimTest, OfDetachedSlotsErasesEachBeforeItIsFree) {
    for (const Taken& t : held_) {
        ASSERT_EQ(lane_.detach(t, test_.limit()), PutResult::kOk);
    }
    std::size_t erased = 0;
    const auto erase = [&](SlotIndex i) {
        EXPECT_TRUE(SlotWord{pool_.word(i).load()}.is_held_by(kDaemonClient));
        ++erased;
    };
    EXPECT_EQ(reclaim_detached(pool_, ~0U, erase), held_.size());
    EXPECT_EQ(erased, held_.size());
    bury();
    EXPECT_EQ(fault_at_rest(test_, 0), "");
}

TEST(Reclaim, WorksInAPoolWithoutASingleFreeSlot) {
    TestPool test;
    Lane lane = test.open(kVictimLane, kVictim);
    ASSERT_EQ(get_all(lane, test.limit()).size(), 16U);
    EXPECT_EQ(test.bury(kVictim).slots, 16U);
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

TEST(Reclaim, OfManyAtOnceTakesBackEach) {
    TestPool test({.slots = 64, .client_count = 8});
    std::vector<Lane> lanes;
    for (std::uint32_t c = 2; c < 8; ++c) {
        lanes.push_back(test.open(LaneId{c}, ClientId{c}));
        ASSERT_EQ(get_all(lanes.back(), test.limit(), 6).size(), 6U);
    }
    const Reclaimed done = reclaim(
        test.pool(), [](ClientId c) { return raw(c) != 3 && raw(c) != 0; }, nullptr);
    EXPECT_EQ(done.slots, 30U);
    EXPECT_EQ(done.lanes, 5U);
    EXPECT_EQ(take_census(test.pool()).held_by[3], 6U);
}

// --- beside live traffic ------------------------------------------------------------------------

TEST(ReclaimStress, LosesNothingBesideLiveLanes) {
    TestPool test({.slots = 40, .capacity = 3, .client_count = 6});
    const Pool& pool = test.pool();
    constexpr int kRounds = 300;
    std::atomic<bool> stop{false};
    std::vector<std::thread> living;
    for (std::uint32_t c = 3; c < 6; ++c) {
        living.emplace_back([&test, &stop, lane = test.open(LaneId{c}, ClientId{c})]() mutable {
            std::vector<Taken> mine;
            for (std::uint32_t k = 0; !stop.load(std::memory_order_acquire); ++k) {
                Taken t;
                if (mine.size() < k % 9 && lane.get(test.limit(), t) == GetResult::kOk) {
                    mine.push_back(t);
                } else if (!mine.empty()) {
                    EXPECT_EQ(lane.put_private(mine.back()), PutResult::kOk);
                    mine.pop_back();
                }
            }
            for (const Taken& t : mine) {
                EXPECT_EQ(lane.put_private(t), PutResult::kOk);
            }
            lane.close();
            free_lane(test.pool(), lane.id());
        });
    }
    for (int round = 0; round < kRounds; ++round) {
        Lane victim = test.open(kVictimLane, kVictim);
        const std::size_t got =
            get_all(victim, test.limit(), static_cast<std::size_t>(round % 11)).size();
        EXPECT_EQ(test.bury(kVictim).slots, got);
    }
    EXPECT_EQ(audit(pool, test::kPatientRounds).findings.size(), 0U);
    stop.store(true, std::memory_order_release);
    for (std::thread& thread : living) {
        thread.join();
    }
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

}  // namespace
}  // namespace mempool::shm
