// Audit and census: each kind of fault is found when injected, and nothing is when all is well.
#include "mempool/shm/recovery/audit.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "mempool/shm/recovery/census.hpp"
#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::get_all;
using test::magazine_in_depot;
using test::TestPool;

class AuditTest : public testing::Test {
protected:
    // The only finding must be `fault` at `where`.
    void expect(Fault fault, std::uint32_t where) {
        const std::vector<Finding> findings = audit(pool_, 1).findings;
        ASSERT_EQ(findings.size(), 1U) << test::text_of(findings);
        EXPECT_EQ(test::name_of(findings[0].fault), test::name_of(fault));
        EXPECT_EQ(findings[0].where, where);
    }
    Taken get() {
        Taken t;
        EXPECT_EQ(lane_.get(test_.limit(), t), GetResult::kOk);
        return t;
    }

    TestPool test_;
    const Pool& pool_ = test_.pool();
    Lane lane_ = test_.open(LaneId{1}, ClientId{1});
};

TEST_F(AuditTest, FindsNothingInASoundPoolAndComparesAll) {
    get();
    const AuditResult result = audit(pool_, 0);
    EXPECT_TRUE(result.findings.empty()) << test::text_of(result.findings);
    EXPECT_EQ(result.slots, 16U);
    EXPECT_EQ(result.magazines, pool_.magazine_limit() - 1);
}

TEST_F(AuditTest, FindsASlotInNoKnownState) {
    const Taken t = get();
    pool_.word(t.index).store(SlotWord::held(t.generation, ClientId{1}).bits | 0x80U);
    expect(Fault::kSlotState, raw(t.index));
    EXPECT_EQ(take_census(pool_).unknown, 1U);
}

TEST_F(AuditTest, FindsAnAbsentSlotBelowTheLimit) {
    const Taken t = get();
    pool_.word(t.index).store(0);
    expect(Fault::kSlotState, raw(t.index));
}

TEST_F(AuditTest, FindsASlotItsMagazineDoesNotHave) {
    const Taken t = get();
    pool_.word(t.index).store(SlotWord::free(t.generation, magazine_in_depot(pool_)).bits);
    expect(Fault::kSlotUnlisted, raw(t.index));
}

TEST_F(AuditTest, FindsASlotInAMagazineThatCannotBe) {
    const Taken t = get();
    for (const std::uint32_t m : {0U, pool_.magazine_limit(), kMaxPlace}) {
        pool_.word(t.index).store(SlotWord::free(t.generation, MagazineId{m}).bits);
        expect(Fault::kSlotUnlisted, raw(t.index));
        EXPECT_EQ(take_census(pool_).unknown, m == 0 ? 0U : 1U) << m;
    }
}

TEST_F(AuditTest, FindsAHolderThatIsNoClient) {
    const Taken t = get();
    for (const auto word : {SlotWord::held, SlotWord::shown}) {
        pool_.word(t.index).store(word(t.generation, ClientId{3}).bits);
        expect(Fault::kSlotHolder, raw(t.index));
        pool_.word(t.index).store(word(t.generation, ClientId{kMaxPlace}).bits);
        expect(Fault::kSlotState, raw(t.index));
    }
}

TEST_F(AuditTest, FindsAMagazineInNoKnownState) {
    const MagazineId m = lane_.loaded();
    pool_.magazine(m).word.store(0);
    expect(Fault::kMagazineState, raw(m));
}

TEST_F(AuditTest, FindsAMagazineOfALaneWithoutAClient) {
    pool_.magazine(lane_.loaded())
        .word.store(MagazineWord::make(50, MagazineState::kOwned, LaneId{3}).bits);
    expect(Fault::kMagazineOwner, raw(lane_.loaded()));
    pool_.magazine(lane_.loaded())
        .word.store(MagazineWord::make(50, MagazineState::kOwned, LaneId{kMaxPlace}).bits);
    expect(Fault::kMagazineOwner, raw(lane_.loaded()));
}

TEST_F(AuditTest, SurvivesALaneOfAClientThatCannotBe) {
    for (const std::uint32_t c : {pool_.geometry().shape.client_count, kMaxPlace}) {
        pool_.lane(LaneId{1}).word.store(LaneWord::make(9, LaneState::kOwned, ClientId{c}).bits);
        const std::vector<Finding> findings = audit(pool_, 1).findings;
        ASSERT_EQ(findings.size(), 3U) << test::text_of(findings);  // its two magazines as well
        EXPECT_EQ(findings[0].fault, Fault::kMagazineOwner);
        EXPECT_EQ(findings[1].fault, Fault::kMagazineOwner);
        EXPECT_EQ(findings[2].fault, Fault::kLaneState);
        EXPECT_EQ(findings[2].where, 1U);
    }
}

TEST_F(AuditTest, FindsAMagazineInTheDepotThatListsAForeignSlot) {
    const MagazineId m = magazine_in_depot(pool_);
    const SlotIndex lost{Pool::items(pool_.magazine(m))[0].load()};
    const Taken t = get();
    Pool::items(pool_.magazine(m))[0].store(raw(t.index));
    const std::vector<Finding> findings = audit(pool_, 1).findings;
    ASSERT_EQ(findings.size(), 2U) << test::text_of(findings);
    EXPECT_EQ(findings[0].fault, Fault::kSlotUnlisted);
    EXPECT_EQ(findings[0].where, raw(lost));
    EXPECT_EQ(findings[1].fault, Fault::kMagazineItem);
    EXPECT_EQ(findings[1].where, raw(m));
}

TEST_F(AuditTest, FindsACountBeyondTheCapacity) {
    const MagazineId m = magazine_in_depot(pool_);
    pool_.magazine(m).count.store(~0U);
    expect(Fault::kMagazineItem, raw(m));
}

TEST_F(AuditTest, FindsAMagazineWithoutAHint) {
    Depot depot(pool_);
    const MagazineId m = depot.claim_full(kDaemonLane);
    MagazineHead& magazine = pool_.magazine(m);
    magazine.word.store(MagazineWord{magazine.word.load()}.next(MagazineState::kFull).bits);
    expect(Fault::kMagazineHint, raw(m));
    EXPECT_EQ(rehint(pool_), 1U);
    EXPECT_TRUE(audit(pool_, 0).findings.empty());
}

TEST_F(AuditTest, AcceptsTheStatesAClientCanBeStoppedIn) {
    const Taken t = get();
    MagazineHead& loaded = pool_.magazine(lane_.loaded());
    // Between word and count of a put.
    Pool::items(loaded)[loaded.count.load()].store(raw(t.index));
    pool_.word(t.index).store(SlotWord::free(t.generation, lane_.loaded()).bits);
    EXPECT_TRUE(audit(pool_, 0).findings.empty());
    // Between word and count of a get.
    const SlotIndex top{Pool::items(loaded)[loaded.count.load() - 1].load()};
    pool_.word(top).store(SlotWord::held(Generation{1}, ClientId{1}).bits);
    EXPECT_TRUE(audit(pool_, 0).findings.empty());
    // Between claim and removal of the hint.
    Depot depot(pool_);
    const MagazineId m = depot.claim_full(LaneId{1});
    Ring full(pool_, full_ring(0));
    ASSERT_TRUE(full.push(m));
    EXPECT_TRUE(audit(pool_, 0).findings.empty());
}

TEST_F(AuditTest, SurvivesAPoolFullOfForeignBytes) {
    std::uint64_t pattern = 0x9e37'79b9'7f4a'7c15ULL;
    const Geometry& g = pool_.geometry();
    for (std::uint64_t at = g.clients_offset; at < g.slots_offset; at += 8) {
        pattern = pattern * 6364136223846793005ULL + 1442695040888963407ULL;
        reinterpret_cast<std::atomic<std::uint64_t>*>(pool_.base() + at)->store(pattern);
    }
    EXPECT_FALSE(audit(pool_, 1).findings.empty());
    EXPECT_EQ(take_census(pool_).slots, 16U);
    count_depot(pool_);
    rehint(pool_);
    reclaim(
        pool_, [](ClientId) { return true; }, nullptr);
    audit(pool_, 0);
}

TEST(Census, SumsToTheSlotsThereAre) {
    TestPool test({.slots = 20, .max_slots = 100, .capacity = 4});
    const Pool& pool = test.pool();
    Lane a = test.open(LaneId{1}, ClientId{1});
    Lane b = test.open(LaneId{2}, ClientId{2});
    test.grow(7);
    std::vector<Taken> taken = get_all(a, test.limit(), 6);
    ASSERT_EQ(taken.size(), 6U);
    ASSERT_EQ(a.detach(taken[0], test.limit()), PutResult::kOk);
    ASSERT_EQ(a.show(taken[1]), PutResult::kOk);
    ASSERT_EQ(b.adopt(taken[1], test.limit()), PutResult::kOk);
    ASSERT_EQ(a.show(taken[2]), PutResult::kOk);  // it still counts as held
    const Census census = take_census(pool);
    EXPECT_EQ(census.slots, 27U);
    EXPECT_EQ(census.detached, 1U);
    EXPECT_EQ(census.held, 5U);
    EXPECT_EQ(census.held_by[1], 4U);
    EXPECT_EQ(census.held_by[2], 1U);
    EXPECT_EQ(census.cached, 2U);
    EXPECT_EQ(census.free, 19U);
    EXPECT_EQ(count_depot(pool), census.free);
}

TEST(AuditStress, FindsNothingWhileTrafficRuns) {
    TestPool test({.slots = 48, .capacity = 2, .client_count = 6});
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (std::uint32_t c = 1; c < 5; ++c) {
        threads.emplace_back([&test, &stop, lane = test.open(LaneId{c}, ClientId{c})]() mutable {
            while (!stop.load(std::memory_order_relaxed)) {
                for (const Taken& t : get_all(lane, test.limit(), 15)) {
                    EXPECT_EQ(lane.put_private(t), PutResult::kOk);
                }
            }
        });
    }
    for (int k = 0; k < 20; ++k) {
        const std::vector<Finding> findings = audit(test.pool(), test::kPatientRounds).findings;
        EXPECT_TRUE(findings.empty()) << test::text_of(findings);
        const Census census = take_census(test.pool());
        EXPECT_EQ(census.free + census.cached + census.held, census.slots);
    }
    stop.store(true);
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace
}  // namespace mempool::shm
