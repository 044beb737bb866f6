// The sizes of a pool and the places of its arrays, all derived from its shape.
//
// Used by every process that maps a pool, and by the daemon that makes one. Pure values: nothing
// here touches shared memory. What stands at the places is in layout.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "mempool/shm/words/words.hpp"

namespace mempool::shm {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPage = 4096;

constexpr std::uint32_t kMaxSegments = 256;
constexpr std::uint32_t kMaxMagazineCapacity = 64;
/// Shards of a depot: a power of two, at most.
constexpr std::uint32_t kMaxShards = 64;
/// A lane works with two magazines and has a third in its hands while it exchanges one.
constexpr std::uint32_t kMagazinesPerLane = 3;
constexpr std::uint32_t kLanesPerClient = 4;
constexpr std::uint32_t kRingsPerShard = 2;
constexpr std::uint32_t kLeastRingCapacity = 8;
constexpr std::uint32_t kMaxClients = 65535;
/// The top four bits of an index are kept for the size class.
constexpr std::uint32_t kMaxIndices = 1U << 28U;
constexpr std::uint64_t kMaxRangeBytes = std::uint64_t{1} << 46U;

/// What a pool is made from; the rest of Geometry follows from it.
struct Shape {
    std::uint64_t slot_size = 0;          ///< bytes a user gets
    std::uint32_t max_slots = 0;          ///< most slots the pool may ever have
    std::uint32_t magazine_capacity = 0;  ///< slots, 1..64
    std::uint32_t client_count = 0;       ///< records, the daemon's included
    std::uint16_t shard_count = 1;        ///< shards of the depot, a power of two
    std::uint16_t channel_room = 0;       ///< kept for channels: 0, pools have none yet

    friend constexpr bool operator==(const Shape&, const Shape&) = default;
};

/// Sizes and places, all derived from the shape, so that a header proves itself by recomputation.
struct Geometry {
    Shape shape;
    std::uint64_t slot_stride = 0;  ///< bytes from slot to slot
    std::uint64_t range_bytes = 0;  ///< address space the whole pool may need
    std::uint64_t clients_offset = 0;
    std::uint64_t lanes_offset = 0;
    std::uint64_t lane_map_offset = 0;
    std::uint64_t rings_offset = 0;  ///< heads and tails
    std::uint64_t cells_offset = 0;  ///< ring_capacity cells a ring
    std::uint64_t records_offset = 0;
    std::uint64_t magazines_offset = 0;
    std::uint64_t slots_offset = 0;
    std::uint32_t index_granule = 0;   ///< a segment's first index is a multiple of this
    std::uint32_t index_capacity = 0;  ///< slot records
    std::uint32_t lane_count = 0;
    std::uint32_t magazine_count = 0;   ///< entries of the magazine array; entry 0 is unused
    std::uint32_t magazine_stride = 0;  ///< bytes
    std::uint32_t ring_capacity = 0;    ///< cells of each ring, a power of two

    friend constexpr bool operator==(const Geometry&, const Geometry&) = default;

    [[nodiscard]] constexpr std::uint64_t offset_of(SlotIndex i) const noexcept {
        return slots_offset + std::uint64_t{raw(i)} * slot_stride;
    }
    [[nodiscard]] constexpr std::uint32_t ring_count() const noexcept {
        return kRingsPerShard * shape.shard_count;
    }
};

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
    return (value + multiple - 1) / multiple * multiple;
}

/// Alignment of a slot: a power of two from a cache line to a page, near a sixteenth of its size,
/// so that rounding costs a slot at most about 6 % and slots of 64 KiB up begin on a page.
constexpr std::uint64_t slot_alignment(std::uint64_t slot_size) noexcept {
    std::uint64_t alignment = kCacheLine;
    while (alignment < kPage && alignment * 2 <= slot_size / 16) {
        alignment *= 2;
    }
    return alignment;
}

/// Bytes between two magazines of that capacity: whole cache lines, so that owners never share one.
constexpr std::uint32_t magazine_stride(std::uint32_t capacity) noexcept {
    return static_cast<std::uint32_t>(round_up(16 + std::uint64_t{capacity} * 4, kCacheLine));
}

/// Sizes and places for `shape`; nullopt if a bound is broken or the range would pass 2^46 bytes.
constexpr std::optional<Geometry> make_geometry(const Shape& shape) noexcept {
    if (shape.slot_size == 0 || shape.slot_size > kMaxRangeBytes || shape.max_slots == 0 ||
        shape.max_slots > kMaxIndices || shape.magazine_capacity == 0 ||
        shape.magazine_capacity > kMaxMagazineCapacity || shape.client_count < 2 ||
        shape.client_count > kMaxClients || shape.shard_count > kMaxShards ||
        !std::has_single_bit(shape.shard_count) || shape.channel_room != 0) {
        return std::nullopt;
    }
    Geometry g;
    g.shape = shape;
    const std::uint64_t alignment = slot_alignment(shape.slot_size);
    g.slot_stride = round_up(shape.slot_size, alignment);
    g.index_granule = static_cast<std::uint32_t>(kPage / alignment);
    const std::uint64_t indices = round_up(
        shape.max_slots + std::uint64_t{kMaxSegments - 1} * (g.index_granule - 1), g.index_granule);
    g.lane_count = shape.client_count * kLanesPerClient;
    const std::uint64_t magazines = 1 + std::uint64_t{g.lane_count} * kMagazinesPerLane +
                                    shape.max_slots / shape.magazine_capacity + kMaxSegments;
    if (indices > kMaxIndices || magazines > kMaxPlace) {
        return std::nullopt;
    }
    g.index_capacity = static_cast<std::uint32_t>(indices);
    g.magazine_count = static_cast<std::uint32_t>(magazines);
    g.magazine_stride = magazine_stride(shape.magazine_capacity);
    // The rings of one kind together have two cells for each magazine, however many they are.
    g.ring_capacity = std::bit_ceil(std::max<std::uint32_t>(
        (2 * g.magazine_count + shape.shard_count - 1) / shape.shard_count, kLeastRingCapacity));

    std::uint64_t at = 2 * kPage + kMaxSegments * std::uint64_t{32};
    const auto place = [&at](std::uint64_t bytes, std::uint64_t alignment_bytes) {
        at = round_up(at, alignment_bytes);
        const std::uint64_t start = at;
        at += bytes;
        return start;
    };
    g.clients_offset = place(std::uint64_t{shape.client_count} * 64, kPage);
    g.lanes_offset = place(std::uint64_t{g.lane_count} * 128, kPage);
    g.lane_map_offset = place(round_up(g.lane_count, 64) / 8, kCacheLine);
    g.rings_offset = place(std::uint64_t{g.ring_count()} * 2 * kCacheLine, kPage);
    g.cells_offset = place(std::uint64_t{g.ring_count()} * g.ring_capacity * 8, kPage);
    g.records_offset = place(indices * 16, kPage);
    g.magazines_offset = place(magazines * g.magazine_stride, kPage);
    g.slots_offset = round_up(at, kPage);
    if (g.slot_stride > (kMaxRangeBytes - g.slots_offset) / indices) {
        return std::nullopt;
    }
    g.range_bytes = round_up(g.slots_offset + indices * g.slot_stride, kPage);
    return g;
}

template <typename T>
constexpr bool kSharedLayout = std::is_standard_layout_v<T>&& std::is_trivially_destructible_v<T>;

static_assert(kSharedLayout<Shape> && sizeof(Shape) == 24);
static_assert(offsetof(Shape, slot_size) == 0 && offsetof(Shape, max_slots) == 8);
static_assert(offsetof(Shape, magazine_capacity) == 12 && offsetof(Shape, client_count) == 16);
static_assert(offsetof(Shape, shard_count) == 20 && offsetof(Shape, channel_room) == 22);

static_assert(kSharedLayout<Geometry> && sizeof(Geometry) == 128);
static_assert(offsetof(Geometry, slot_stride) == 24 && offsetof(Geometry, range_bytes) == 32);
static_assert(offsetof(Geometry, clients_offset) == 40 && offsetof(Geometry, lanes_offset) == 48);
static_assert(offsetof(Geometry, lane_map_offset) == 56);
static_assert(offsetof(Geometry, rings_offset) == 64 && offsetof(Geometry, cells_offset) == 72);
static_assert(offsetof(Geometry, records_offset) == 80);
static_assert(offsetof(Geometry, magazines_offset) == 88 && offsetof(Geometry, slots_offset) == 96);
static_assert(offsetof(Geometry, index_granule) == 104);
static_assert(offsetof(Geometry, index_capacity) == 108 && offsetof(Geometry, lane_count) == 112);
static_assert(offsetof(Geometry, magazine_count) == 116);
static_assert(offsetof(Geometry, magazine_stride) == 120);
static_assert(offsetof(Geometry, ring_capacity) == 124);

}  // namespace mempool::shm
