// Growth: segments announced one after another, gaps between them, and growth that is cut off.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::fault_at_rest;
using test::get_all;
using test::TestPool;

TEST(Growth, SegmentsBeginAtTheGranuleAndTheGapStaysAbsent) {
    TestPool test({.slots = 10, .max_slots = 300});
    const Pool& pool = test.pool();
    const std::uint32_t granule = pool.geometry().index_granule;
    ASSERT_EQ(granule, 64U);
    test.grow(100);
    test.grow(7);
    EXPECT_EQ(pool.segment_count(), 3U);
    EXPECT_EQ(pool.segment(1).first_index, 64U);
    EXPECT_EQ(pool.segment(2).first_index, 192U);
    EXPECT_EQ(pool.index_limit(), 199U);
    for (std::uint32_t i = 0; i < pool.index_limit(); ++i) {
        const bool gap = (i >= 10 && i < 64) || (i >= 164 && i < 192);
        EXPECT_EQ(SlotWord{pool.word(SlotIndex{i}).load()}.state() == SlotState::kAbsent, gap) << i;
    }
    // Each segment's slots begin on a page.
    for (std::uint32_t s = 0; s < 3; ++s) {
        EXPECT_EQ(pool.geometry().offset_of(SlotIndex{pool.segment(s).first_index}) % kPage, 0U);
    }
    EXPECT_EQ(test.slots(), 117U);
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

TEST(Growth, SlotInAGapIsRefused) {
    TestPool test({.slots = 10, .max_slots = 300});
    test.grow(100);
    Lane lane = test.open(LaneId{1}, ClientId{1});
    for (const std::uint32_t generation : {0U, test::kFirstGeneration}) {
        Taken t{SlotIndex{20}, Generation{generation}};
        EXPECT_EQ(lane.put(t, test.limit()), PutResult::kStale);
        EXPECT_EQ(lane.adopt(t, test.limit()), PutResult::kStale);
    }
}

TEST(Growth, NewSlotsAreHandedOutByLanesThatWereEmpty) {
    TestPool test({.slots = 8, .max_slots = 40});
    Lane lane = test.open(LaneId{1}, ClientId{1});
    EXPECT_EQ(get_all(lane, test.limit()).size(), 8U);
    test.grow(20);
    EXPECT_EQ(get_all(lane, test.limit()).size(), 20U);
    test.grow(12);
    EXPECT_EQ(get_all(lane, test.limit()).size(), 12U);
}

TEST(Growth, WakesThoseWhoWait) {
    TestPool test({.slots = 8, .max_slots = 40});
    const std::uint32_t before = test.pool().live().wake_sequence.load();
    test.grow(4);
    EXPECT_EQ(test.pool().live().wake_sequence.load(), before);
    test.pool().live().waiters.store(1);
    test.grow(4);
    EXPECT_NE(test.pool().live().wake_sequence.load(), before);
}

TEST(Growth, ReachesTheLastSegmentThereCanBe) {
    TestPool test({.slots = 1, .max_slots = kMaxSegments, .capacity = 1, .client_count = 2});
    const Pool& pool = test.pool();
    for (std::uint32_t s = 1; s < kMaxSegments; ++s) {
        const SegmentEntry entry = test.next_entry(1);
        ASSERT_EQ(check_segment_entry(pool.geometry(), s, entry, &pool.segment(s - 1)), "") << s;
        test.grow(1);
    }
    EXPECT_EQ(pool.segment_count(), kMaxSegments);
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

TEST(Growth, CutOffBeforeTheAnnouncementLeavesNothingBehind) {  // I6
    TestPool test({.slots = 10, .max_slots = 300});
    const Pool& pool = test.pool();
    // A growth by 100 that wrote all it had to, and died before N1.
    const std::uint32_t count = pool.segment_count();
    const std::vector<std::byte> rings(pool.base() + pool.geometry().rings_offset,
                                       pool.base() + pool.geometry().records_offset);
    Live& live = pool.live();
    test.grow(100);
    live.segment_count.store(count);
    std::memcpy(pool.base() + pool.geometry().rings_offset, rings.data(), rings.size());
    EXPECT_EQ(fault_at_rest(test, 0), "");
    // The next grows by less, so that a gap lies where the first had written slots.
    test.grow(49);
    test.grow(20);
    // A client dies that owned every magazine: reclaim looks at their items beyond the counts.
    test.attach(ClientId{2});
    ASSERT_TRUE(try_claim_lane(pool, LaneId{2}, ClientId{2}));
    Depot depot(pool);
    while (depot.claim_full(LaneId{2}) != kNoMagazine) {
    }
    test.bury(ClientId{2});
    EXPECT_EQ(take_census(pool).slots, 79U);
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

TEST(Growth, AnnouncedWithoutHintsIsMendedByRehint) {
    TestPool test({.slots = 8, .max_slots = 40});
    const Pool& pool = test.pool();
    RingState& ring = pool.ring_state(full_ring(0));
    const auto tail = ring.tail.load();
    test.grow(20);
    // Died right after N1: no hint was pushed.
    for (std::uint64_t t = tail; t < ring.tail.load(); ++t) {
        pool.ring_cells(full_ring(0))[t % pool.geometry().ring_capacity].store(0);
    }
    ring.tail.store(tail);
    EXPECT_EQ(rehint(pool), 5U);
    EXPECT_EQ(fault_at_rest(test, 0), "");
}

}  // namespace
}  // namespace mempool::shm
