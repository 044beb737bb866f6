// Sizes and places: what make_geometry() accepts, and that all it lays out fits and is aligned.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {
namespace {

constexpr Shape kGood{
    .slot_size = 64, .max_slots = 1000, .magazine_capacity = 8, .client_count = 16};

TEST(Geometry, RefusesEachBoundBroken) {
    ASSERT_TRUE(make_geometry(kGood));
    std::vector<Shape> bad(15, kGood);
    bad[0].slot_size = 0;
    bad[1].slot_size = kMaxRangeBytes + 1;
    bad[2].slot_size = std::numeric_limits<std::uint64_t>::max();
    bad[3].max_slots = 0;
    bad[4].max_slots = kMaxIndices + 1;
    bad[5].max_slots = std::numeric_limits<std::uint32_t>::max();
    bad[6].magazine_capacity = 0;
    bad[7].magazine_capacity = kMaxMagazineCapacity + 1;
    bad[8].client_count = 1;
    bad[9].client_count = kMaxClients + 1;
    bad[10].channel_room = 1;
    bad[11].shard_count = 0;
    bad[12].shard_count = 3;
    bad[13].shard_count = 2 * kMaxShards;
    bad[14].slot_size = kMaxRangeBytes / 1000;  // the range would pass 2^46 bytes
    for (const Shape& shape : bad) {
        EXPECT_FALSE(make_geometry(shape)) << &shape - bad.data();
    }
}

TEST(Geometry, RefusesMoreMagazinesOrIndicesThanAWordCanName) {
    Shape shape = kGood;
    shape.max_slots = kMaxIndices;  // no index would be left for the gaps between segments
    EXPECT_FALSE(make_geometry(shape));
    shape.max_slots = kMaxPlace;
    shape.magazine_capacity = 1;
    EXPECT_FALSE(make_geometry(shape));
}

TEST(Geometry, AcceptsTheLargestAndSmallest) {
    EXPECT_TRUE(
        make_geometry({.slot_size = 1, .max_slots = 1, .magazine_capacity = 1, .client_count = 2}));
    EXPECT_TRUE(make_geometry({.slot_size = 64,
                               .max_slots = kMaxIndices - 64 * kMaxSegments,
                               .magazine_capacity = 64,
                               .client_count = kMaxClients}));
    EXPECT_TRUE(make_geometry({.slot_size = std::uint64_t{1} << 45U,
                               .max_slots = 1,
                               .magazine_capacity = 1,
                               .client_count = 2}));
}

std::vector<Shape> many_shapes() {
    std::vector<Shape> shapes;
    for (const std::uint64_t size :
         {1ULL, 63ULL, 64ULL, 65ULL, 100ULL, 1000ULL, 2047ULL, 2048ULL, 4096ULL, 5000ULL, 65536ULL,
          65537ULL, 1000001ULL, 1ULL << 28U}) {
        for (const std::uint32_t slots : {1U, 2U, 63U, 64U, 1000U, 65537U}) {
            for (const std::uint32_t capacity : {1U, 3U, 12U, 64U}) {
                shapes.push_back({.slot_size = size,
                                  .max_slots = slots,
                                  .magazine_capacity = capacity,
                                  .client_count = 2 + slots % 50,
                                  .shard_count = static_cast<std::uint16_t>(1U << slots % 7)});
            }
        }
    }
    return shapes;
}

TEST(Geometry, PlacesArraysOneAfterAnotherWithoutOverlap) {
    for (const Shape& shape : many_shapes()) {
        const auto g = make_geometry(shape);
        ASSERT_TRUE(g);
        struct Array {
            std::uint64_t offset, bytes;
        };
        const std::uint64_t n = g->index_capacity;
        const std::array<Array, 7> arrays = {{
            {2 * kPage, kMaxSegments * sizeof(SegmentEntry)},
            {g->clients_offset, shape.client_count * sizeof(ClientRecord)},
            {g->lanes_offset, g->lane_count * sizeof(LaneRecord)},
            {g->rings_offset, g->ring_count() * sizeof(RingState)},
            {g->cells_offset, std::uint64_t{g->ring_count()} * g->ring_capacity * 8},
            {g->records_offset, n * sizeof(SlotRecord)},
            {g->magazines_offset, std::uint64_t{g->magazine_count} * g->magazine_stride},
        }};
        std::uint64_t at = 2 * kPage;
        for (const Array& array : arrays) {
            EXPECT_EQ(array.offset % kPage, 0U);
            EXPECT_GE(array.offset, at);
            at = array.offset + array.bytes;
        }
        EXPECT_GE(g->slots_offset, at);
        EXPECT_EQ(g->slots_offset % kPage, 0U);
        EXPECT_EQ(g->range_bytes % kPage, 0U);
        EXPECT_GE(g->range_bytes, g->offset_of(SlotIndex{g->index_capacity - 1}) + shape.slot_size);
    }
}

TEST(Geometry, AlignsSlotsAndBeginsEverySegmentOnAPage) {
    for (const Shape& shape : many_shapes()) {
        const auto g = make_geometry(shape);
        ASSERT_TRUE(g);
        EXPECT_GE(g->slot_stride, shape.slot_size);
        EXPECT_EQ(g->slot_stride % kCacheLine, 0U);
        EXPECT_EQ(g->index_granule * g->slot_stride % kPage, 0U) << shape.slot_size;
        // Rounding costs at most a sixteenth, except for slots smaller than a cache line's
        // multiple.
        if (shape.slot_size >= 1024) {
            EXPECT_LE(g->slot_stride, shape.slot_size + shape.slot_size / 16);
        }
        if (shape.slot_size >= 16 * kPage) {
            EXPECT_EQ(g->slot_stride % kPage, 0U);
        }
        EXPECT_GE(g->magazine_stride, sizeof(MagazineHead) + 4UL * shape.magazine_capacity);
        EXPECT_EQ(g->magazine_stride % kCacheLine, 0U);
    }
}

TEST(Geometry, HasMagazinesAndRingCellsForEveryWayToGrow) {
    for (const Shape& shape : many_shapes()) {
        const auto g = make_geometry(shape);
        ASSERT_TRUE(g);
        EXPECT_TRUE(std::has_single_bit(g->ring_capacity));
        EXPECT_GE(std::uint64_t{g->ring_capacity} * shape.shard_count, 2UL * g->magazine_count);
        // As many segments as there can be, each of an odd size, so that each ends in a gap.
        const std::uint32_t each = std::max(1U, shape.max_slots / kMaxSegments);
        SegmentEntry last{};
        std::uint32_t left = shape.max_slots;
        for (std::uint32_t number = 0; number < kMaxSegments && left != 0; ++number) {
            const std::uint32_t slots = number + 1 == kMaxSegments ? left : std::min(left, each);
            const SegmentEntry entry =
                next_segment(*g, number, slots, number == 0 ? nullptr : &last, 0);
            EXPECT_EQ(check_segment_entry(*g, number, entry, number == 0 ? nullptr : &last), "");
            left -= slots;
            last = entry;
        }
        EXPECT_LE(last.end_index(), g->index_capacity);
        EXPECT_LE(last.first_magazine + last.magazine_count, g->magazine_count);
    }
}

TEST(Geometry, CostsAtMost32BytesOfMetadataASlotInALargePoolOfSmallSlots) {
    const std::uint64_t slots = 1'000'000;
    const auto g = make_geometry({.slot_size = 64,
                                  .max_slots = 1'000'000,
                                  .magazine_capacity = choose_magazine_capacity(64, slots, 65536),
                                  .client_count = 256});
    ASSERT_TRUE(g);
    EXPECT_LE(g->slots_offset, 32 * slots);
}

TEST(MagazineCapacity, FitsTheCacheAndIsSmallAgainstThePool) {
    EXPECT_EQ(choose_magazine_capacity(64, 1'000'000, 65536), 64U);
    EXPECT_EQ(choose_magazine_capacity(4096, 1'000'000, 65536), 16U);
    EXPECT_EQ(choose_magazine_capacity(65536, 1'000'000, 65536), 1U);
    EXPECT_EQ(choose_magazine_capacity(1 << 30U, 8, 65536), 1U);
    EXPECT_EQ(choose_magazine_capacity(64, 640, 65536), 10U);
    EXPECT_EQ(choose_magazine_capacity(64, 1, 65536), 1U);
    EXPECT_EQ(choose_magazine_capacity(0, 1'000'000, 65536), 64U);
    EXPECT_EQ(choose_magazine_capacity(64, 1'000'000, 0), 1U);
}

TEST(SegmentEntry, IsRefusedWhenAnyFigureContradictsTheOthers) {
    const auto g = make_geometry(kGood);
    ASSERT_TRUE(g);
    const SegmentEntry first = next_segment(*g, 0, 100, nullptr, 0);
    const SegmentEntry second = next_segment(*g, 1, 50, &first, 0);
    EXPECT_EQ(check_segment_entry(*g, 0, first, nullptr), "");
    EXPECT_EQ(check_segment_entry(*g, 1, second, &first), "");
    EXPECT_EQ(second.first_index % g->index_granule, 0U);

    const auto refused = [&](auto change) {
        SegmentEntry entry = second;
        change(entry);
        return check_segment_entry(*g, 1, entry, &first).find("entry 1") != std::string::npos;
    };
    EXPECT_TRUE(refused([](SegmentEntry& e) { e.slot_count = 0; }));
    EXPECT_TRUE(refused([](SegmentEntry& e) { e.slot_count = ~0U; }));
    EXPECT_TRUE(refused([](SegmentEntry& e) { ++e.first_index; }));
    EXPECT_TRUE(refused([](SegmentEntry& e) { e.first_index = 0; }));
    EXPECT_TRUE(refused([](SegmentEntry& e) { ++e.first_magazine; }));
    EXPECT_TRUE(refused([](SegmentEntry& e) { --e.magazine_count; }));
    EXPECT_TRUE(
        refused([&](SegmentEntry& e) { e.slot_count = g->index_capacity - e.first_index + 1; }));
    EXPECT_NE(check_segment_entry(*g, 0, second, nullptr), "");
}

TEST(Storage, OfASegmentCoversItsShareOfEachArrayAndNoMore) {
    const auto g = make_geometry(kGood);
    ASSERT_TRUE(g);
    const SegmentEntry first = next_segment(*g, 0, 100, nullptr, 0);
    const SegmentEntry second = next_segment(*g, 1, 50, &first, 0);
    const auto ranges = storage_of(*g, second);
    EXPECT_EQ(ranges[0].offset, g->records_offset + 16ULL * second.first_index);
    EXPECT_EQ(ranges[0].bytes, 800U);
    EXPECT_EQ(ranges[1].bytes, std::uint64_t{second.magazine_count} * g->magazine_stride);
    EXPECT_EQ(segment_file_bytes(*g, 0, 100), g->slots_offset + round_up(6400, kPage));
    EXPECT_EQ(segment_file_bytes(*g, 1, 50), kPage + kPage);
}

}  // namespace
}  // namespace mempool::shm
