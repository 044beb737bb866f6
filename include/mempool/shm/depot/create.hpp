// Making a pool's metadata and announcing segments.
//
// Called by the daemon only (and by tests), on memory that already has storage behind it: the
// caller has posix_fallocate'd what storage_of() lists. Makes no system call itself.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "mempool/shm/depot/daemon_depot.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

/// Magazine capacity for slots of that size in a pool that begins with `slots`: what fits in
/// `cache_bytes`, at most 64, and small against the pool, so that few slots idle in lanes.
[[nodiscard]] constexpr std::uint32_t choose_magazine_capacity(std::uint64_t slot_size,
                                                               std::uint64_t slots,
                                                               std::uint64_t cache_bytes) noexcept {
    const std::uint64_t by_bytes = cache_bytes / std::max<std::uint64_t>(slot_size, 1);
    const std::uint64_t by_pool = slots / 64;
    return static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(std::min(by_bytes, by_pool), 1, kMaxMagazineCapacity));
}

/// The entry of segment `number` with `slot_count` slots after `previous` (nullptr for segment 0).
[[nodiscard]] constexpr SegmentEntry next_segment(const Geometry& g, std::uint32_t number,
                                                  std::uint32_t slot_count,
                                                  const SegmentEntry* previous,
                                                  std::uint64_t now) noexcept {
    SegmentEntry entry{};
    if (previous == nullptr) {
        entry.first_magazine = 1;
    } else {
        entry.first_index =
            static_cast<std::uint32_t>(round_up(previous->end_index(), g.index_granule));
        entry.first_magazine = previous->first_magazine + previous->magazine_count;
    }
    entry.slot_count = slot_count;
    entry.magazine_count = magazines_for(g, number, slot_count);
    entry.added_at = now;
    return entry;
}

/// A range of bytes in segment 0's file.
struct FileRange {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
};

/// The metadata that must have storage before `entry` is announced; segment 0 also needs all
/// below records_offset: [0, records_offset).
[[nodiscard]] constexpr std::array<FileRange, 2> storage_of(const Geometry& g,
                                                            const SegmentEntry& entry) noexcept {
    const std::uint64_t first = entry.first_index;
    const std::uint64_t count = entry.slot_count;
    return {{{g.records_offset + first * sizeof(SlotRecord), count * sizeof(SlotRecord)},
             {g.magazines_offset + std::uint64_t{entry.first_magazine} * g.magazine_stride,
              std::uint64_t{entry.magazine_count} * g.magazine_stride}}};
}

/// What tells one pool from another.
struct Identity {
    std::string_view name;  ///< shorter than kMaxPoolName
    std::array<std::uint8_t, 16> uuid{};
    std::uint32_t first_generation = 0;  ///< random
    std::uint64_t now = 0;               ///< seconds since the epoch
};

/// Writes the header of a new pool into zeroed memory; its state stays CREATING.
inline void write_header(const Pool& pool, const Identity& identity) noexcept {
    Header& header = pool.header();
    header.magic = kMagic;
    header.layout_version = kLayoutVersion;
    header.header_bytes = sizeof(Header);
    header.class_count = 1;
    header.fingerprint = kFingerprint;
    header.created_at = identity.now;
    std::copy(identity.uuid.begin(), identity.uuid.end(), header.uuid);
    header.generation_0 = identity.first_generation;
    const std::size_t length = std::min(identity.name.size(), kMaxPoolName);
    std::memcpy(header.name, identity.name.data(), length);
    header.geometry = pool.geometry();
    pool.live().now.store(static_cast<std::uint32_t>(identity.now), std::memory_order_relaxed);
    pool.lane(kDaemonLane)
        .word.store(LaneWord::make(1, LaneState::kOwned, kDaemonClient).bits,
                    std::memory_order_relaxed);
}

/// Last step of creation: from here on attach may believe the header (I6).
inline void mark_ready(const Pool& pool) noexcept {
    pool.header().state.store(PoolState::kReady, std::memory_order_release);
}

/// Fills magazines [begin, end) of a segment, counted from its first, and the words of the slots in
/// them. All it touches has storage.
/// Crash:  nobody looks at what was written before publish_segment(), and the next growth writes it
///         again.
inline void fill_magazines(const Pool& pool, const SegmentEntry& entry, std::uint32_t begin,
                           std::uint32_t end) noexcept {
    const std::uint32_t capacity = pool.magazine_capacity();
    const Generation generation{pool.header().generation_0};
    for (std::uint32_t k = begin; k < end; ++k) {
        const MagazineId id{entry.first_magazine + k};
        MagazineHead& magazine = pool.magazine(id);
        const auto before = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(std::uint64_t{k} * capacity, entry.slot_count));
        const std::uint32_t next_index = entry.first_index + before;
        const std::uint32_t count = std::min(capacity, entry.slot_count - before);
        for (std::uint32_t item = 0; item < count; ++item) {
            // The lowest index on top: a fresh pool is walked in the order of its addresses.
            const std::uint32_t i = next_index + count - 1 - item;
            Pool::items(magazine)[item].store(i, std::memory_order_relaxed);
            pool.word(SlotIndex{i})
                .store(SlotWord::free(generation, id).bits, std::memory_order_relaxed);
        }
        // A growth that died here may have left items that name slots of another segment, with
        // words that fit: reclaim would believe them, since it looks beyond the count.
        for (std::uint32_t item = count; item < capacity; ++item) {
            Pool::items(magazine)[item].store(~0U, std::memory_order_relaxed);
        }
        magazine.count.store(count, std::memory_order_relaxed);
        const MagazineWord word{magazine.word.load(std::memory_order_relaxed)};
        magazine.word.store(
            word.next(count != 0 ? MagazineState::kFull : MagazineState::kEmpty).bits,
            std::memory_order_relaxed);
    }
}

/// Announces segment `number`, whose magazines are filled. Its own object is in place, so that
/// whoever sees the announcement can map it.
///
/// Linearizes: N1.
/// Pairs:  N1 release -> acquire in Pool::segment_count().
/// ABA:    the count only grows.
/// Crash:  after N1 hints are missing, which rehint() mends.
inline void publish_segment(const Pool& pool, std::uint32_t number,
                            const SegmentEntry& entry) noexcept {
    pool.segment(number) = entry;
    pool.live().segment_count.store(number + 1, std::memory_order_release);  // N1
    // Neighbours get the same shard; those with slots are spread over all, and so are those
    // without.
    DaemonDepot depot(pool);
    const std::uint32_t capacity = pool.magazine_capacity();
    const std::uint32_t filled = (entry.slot_count - 1) / capacity + 1;
    const auto share = [&pool](std::uint64_t k, std::uint64_t of) {
        return static_cast<std::uint32_t>(k * pool.shard_count() / of);
    };
    for (std::uint32_t k = 0; k < entry.magazine_count; ++k) {
        depot.hint(
            MagazineId{entry.first_magazine + k},
            k < filled ? share(k, filled) : share(k - filled, entry.magazine_count - filled));
    }
    depot.wake(entry.slot_count);
}

/// Fills a segment and announces it, at once.
inline void announce_segment(const Pool& pool, std::uint32_t number,
                             const SegmentEntry& entry) noexcept {
    fill_magazines(pool, entry, 0, entry.magazine_count);
    publish_segment(pool, number, entry);
}

}  // namespace mempool::shm
