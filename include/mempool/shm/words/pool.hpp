// A mapped pool as typed references: base address and checked geometry in, records out.
//
// Used by every process, after check_header() accepted a private copy of the header. All places
// come from that private copy: what is written into the shared header later moves nothing here.
// Owns no memory and makes no system call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "mempool/shm/words/layout.hpp"

namespace mempool::shm {

/// Empty if `header`, a private copy, is one this build can attach to; else what is wrong with it
/// and what to do. `file_bytes` is the size of the object it came from.
[[nodiscard]] std::string check_header(const Header& header, std::uint64_t file_bytes);

/// Empty if entry `number` of the segment table fits after `previous` (nullptr for entry 0).
[[nodiscard]] std::string check_segment_entry(const Geometry& g, std::uint32_t number,
                                              const SegmentEntry& entry,
                                              const SegmentEntry* previous);

/// Magazines a segment of `slot_count` slots brings; segment 0 also brings those of the lanes.
[[nodiscard]] constexpr std::uint32_t magazines_for(const Geometry& g, std::uint32_t number,
                                                    std::uint32_t slot_count) noexcept {
    const std::uint32_t capacity = g.shape.magazine_capacity;
    const std::uint32_t filled = slot_count / capacity + (slot_count % capacity != 0 ? 1U : 0U);
    return number == 0 ? filled + g.lane_count * kMagazinesPerLane : filled;
}

/// Typed view of one mapping of a pool's metadata. Copyable; valid as long as the mapping.
class Pool {
public:
    Pool() = default;
    /// `base`: where this process mapped segment 0. `geometry`: accepted by check_header().
    Pool(std::byte* base, const Geometry& geometry) noexcept
        : base_(base),
          records_(at<SlotRecord>(geometry.records_offset)),
          magazines_(base + geometry.magazines_offset),
          magazine_stride_(geometry.magazine_stride),
          magazine_capacity_(geometry.shape.magazine_capacity),
          geometry_(geometry) {}

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] const Geometry& geometry() const noexcept { return geometry_; }
    [[nodiscard]] std::uint32_t magazine_capacity() const noexcept { return magazine_capacity_; }

    [[nodiscard]] Header& header() const noexcept { return *at<Header>(0); }
    [[nodiscard]] Live& live() const noexcept { return *at<Live>(kPage); }
    [[nodiscard]] SegmentEntry& segment(std::uint32_t number) const noexcept {
        return at<SegmentEntry>(2 * kPage)[number];
    }
    [[nodiscard]] ClientRecord& client(ClientId id) const noexcept {
        return at<ClientRecord>(geometry_.clients_offset)[raw(id)];
    }
    [[nodiscard]] LaneRecord& lane(LaneId id) const noexcept {
        return at<LaneRecord>(geometry_.lanes_offset)[raw(id)];
    }
    /// Word `w` of the lane map: bit b is lane 64 w + b.
    [[nodiscard]] std::atomic<std::uint64_t>& lane_map(std::uint32_t w) const noexcept {
        return at<std::atomic<std::uint64_t>>(geometry_.lane_map_offset)[w];
    }
    [[nodiscard]] SlotRecord& record(SlotIndex i) const noexcept { return records_[raw(i)]; }
    [[nodiscard]] std::atomic<std::uint64_t>& word(SlotIndex i) const noexcept {
        return records_[raw(i)].word;
    }
    [[nodiscard]] MagazineHead& magazine(MagazineId m) const noexcept {
        return *reinterpret_cast<MagazineHead*>(magazines_ +
                                                std::uint64_t{raw(m)} * magazine_stride_);
    }
    [[nodiscard]] static std::atomic<std::uint32_t>* items(MagazineHead& m) noexcept {
        return reinterpret_cast<std::atomic<std::uint32_t>*>(&m + 1);
    }
    [[nodiscard]] std::uint32_t shard_count() const noexcept { return geometry_.shape.shard_count; }
    [[nodiscard]] RingState& ring_state(RingId r) const noexcept {
        return at<RingState>(geometry_.rings_offset)[raw(r)];
    }
    /// The first of ring_capacity cells.
    [[nodiscard]] std::atomic<std::uint64_t>* ring_cells(RingId r) const noexcept {
        return at<std::atomic<std::uint64_t>>(geometry_.cells_offset) +
               std::uint64_t{raw(r)} * geometry_.ring_capacity;
    }
    [[nodiscard]] std::byte* slot(SlotIndex i) const noexcept {
        return base_ + geometry_.offset_of(i);
    }

    /// Segments announced so far, at most kMaxSegments whatever stands there.
    /// Pairs: acquire <- release in publish_segment(): all that they announce is seen.
    [[nodiscard]] std::uint32_t segment_count() const noexcept {
        const std::uint32_t count = live().segment_count.load(std::memory_order_acquire);
        return count < kMaxSegments ? count : kMaxSegments;
    }
    /// A copy of segment(number), each field read once: what is checked is what is used, whatever
    /// others write there meanwhile.
    [[nodiscard]] SegmentEntry read_segment(std::uint32_t number) const noexcept {
        SegmentEntry& shared = segment(number);
        const auto once = [](auto& field) {
            return std::atomic_ref(field).load(std::memory_order_relaxed);
        };
        return {.first_index = once(shared.first_index),
                .slot_count = once(shared.slot_count),
                .first_magazine = once(shared.first_magazine),
                .magazine_count = once(shared.magazine_count),
                .added_at = once(shared.added_at),
                .object = once(shared.object)};
    }
    /// One past the last index announced, at most index_capacity whatever stands there.
    [[nodiscard]] std::uint32_t index_limit() const noexcept {
        const std::uint32_t count = segment_count();
        const std::uint32_t end = count == 0 ? 0 : read_segment(count - 1).end_index();
        return end < geometry_.index_capacity ? end : geometry_.index_capacity;
    }
    /// One past the last magazine announced, 1 to magazine_count whatever stands there.
    [[nodiscard]] std::uint32_t magazine_limit() const noexcept {
        const std::uint32_t count = segment_count();
        if (count == 0) {
            return 1;
        }
        const SegmentEntry last = read_segment(count - 1);
        const std::uint32_t end = last.first_magazine + last.magazine_count;
        return std::clamp(end, 1U, geometry_.magazine_count);
    }
    /// Is `m` announced? What a foreign byte names may lie where there is no memory yet.
    [[nodiscard]] bool has_magazine(MagazineId m) const noexcept {
        return m != kNoMagazine && raw(m) < magazine_limit();
    }

private:
    template <typename T>
    [[nodiscard]] T* at(std::uint64_t offset) const noexcept {
        return reinterpret_cast<T*>(base_ + offset);
    }

    std::byte* base_ = nullptr;
    SlotRecord* records_ = nullptr;
    std::byte* magazines_ = nullptr;
    std::uint32_t magazine_stride_ = 0;
    std::uint32_t magazine_capacity_ = 0;
    Geometry geometry_;
};

/// Calls `visit(RingId)` for each ring.
template <typename Visit>
void for_each_ring(const Pool& pool, Visit&& visit) {
    for (std::uint32_t r = 0; r < pool.geometry().ring_count(); ++r) {
        visit(RingId{r});
    }
}

/// Calls `visit(SlotIndex)` for every slot there is, in ascending order: the indices skipped
/// between segments are none. Each index at most once, whatever the segment table says.
template <typename Visit>
void for_each_slot(const Pool& pool, Visit&& visit) {
    std::uint32_t next = 0;
    const std::uint32_t segments = pool.segment_count();
    for (std::uint32_t s = 0; s < segments; ++s) {
        const SegmentEntry entry = pool.read_segment(s);
        const std::uint32_t end = std::min(entry.end_index(), pool.geometry().index_capacity);
        for (next = std::max(next, entry.first_index); next < end; ++next) {
            visit(SlotIndex{next});
        }
    }
}

inline std::string check_header(const Header& header, std::uint64_t file_bytes) {
    const auto number = [](auto value) { return std::to_string(value); };
    if (file_bytes < sizeof(Header)) {
        return "the object is " + number(file_bytes) + " bytes long, shorter than a pool's header";
    }
    if (header.magic != kMagic) {
        return "it does not begin with a pool's magic number: not made by mempool, or overwritten";
    }
    if (header.layout_version != kLayoutVersion) {
        return "its layout version is " + number(header.layout_version) + ", this build knows " +
               number(kLayoutVersion) + ": use the matching release";
    }
    if ((header.incompat & ~kKnownIncompat) != 0) {
        return "it uses features this build does not know (incompat mask " +
               number(header.incompat & ~kKnownIncompat) + "): use a newer release";
    }
    if ((header.ro_compat & ~kKnownRoCompat) != 0) {
        return "it uses features this build may only read (ro_compat mask " +
               number(header.ro_compat & ~kKnownRoCompat) + "): use a newer release";
    }
    if (header.header_bytes != sizeof(Header) || header.fingerprint != kFingerprint) {
        return "its structure sizes differ from this build's (fingerprint " +
               number(header.fingerprint) + ", expected " + number(kFingerprint) +
               "): build client and daemon for one ABI";
    }
    if (header.class_count != 1) {
        return "it has " + number(header.class_count) + " size classes, this build knows 1";
    }
    if (header.state.load(std::memory_order_relaxed) != PoolState::kReady) {
        return "its creation was not finished";
    }
    const auto expected = make_geometry(header.geometry.shape);
    if (!expected || *expected != header.geometry) {
        return "its sizes contradict each other: the header was overwritten";
    }
    if (std::memchr(header.name, 0, sizeof(header.name)) == nullptr) {
        return "its name is not terminated: the header was overwritten";
    }
    if (file_bytes < header.geometry.slots_offset) {
        return "the object is " + number(file_bytes) + " bytes long, its metadata alone needs " +
               number(header.geometry.slots_offset) + ": it was truncated";
    }
    return {};
}

inline std::string check_segment_entry(const Geometry& g, std::uint32_t number,
                                       const SegmentEntry& entry, const SegmentEntry* previous) {
    const std::uint64_t first =
        previous == nullptr ? 0 : round_up(previous->end_index(), g.index_granule);
    const std::uint64_t first_magazine =
        previous == nullptr ? 1
                            : std::uint64_t{previous->first_magazine} + previous->magazine_count;
    if (entry.first_index != first || entry.slot_count == 0 ||
        std::uint64_t{entry.first_index} + entry.slot_count > g.index_capacity ||
        entry.first_magazine != first_magazine ||
        entry.magazine_count != magazines_for(g, number, entry.slot_count) ||
        first_magazine + entry.magazine_count > g.magazine_count) {
        return "segment table entry " + std::to_string(number) + " contradicts the pool's sizes";
    }
    return {};
}

/// Bytes of segment `number`'s file, its slots included, in whole pages.
[[nodiscard]] inline std::uint64_t segment_file_bytes(const Geometry& g, std::uint32_t number,
                                                      std::uint32_t slot_count) noexcept {
    const std::uint64_t slots = round_up(slot_count * g.slot_stride, kPage);
    return number == 0 ? g.slots_offset + slots : kPage + slots;
}

}  // namespace mempool::shm
