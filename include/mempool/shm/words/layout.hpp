// The bytes of a pool: what stands where in its segments, and who checks it.
//
//   segment 0                                         segment k > 0, an object of its own
//   +--------------------------------+ 0              +--------------------------+ 0
//   | Header        identity, sizes  |                | SegmentHeader            |
//   +--------------------------------+ 4096           +--------------------------+ 4096
//   | Live          hot shared state |                | slots of segment k       |
//   +--------------------------------+ 8192           +--------------------------+
//   | SegmentEntry  [kMaxSegments]   |
//   +--------------------------------+ clients_offset
//   | ClientRecord  [client_count]   |
//   | LaneRecord    [lane_count]     |
//   | lane map      1 bit a lane     |
//   | RingState     [2 * shards]     |  of each shard: full, then empty
//   | ring cells    in the same order|
//   | SlotRecord    [index_capacity] |  word, time, tag
//   | magazines     [magazine_count] |  16 + 4 * magazine_capacity bytes each, in cache lines
//   +--------------------------------+ slots_offset
//   | slots of segment 0             |
//   +--------------------------------+
//
// Every process reserves one range of range_bytes for the pool and maps segment 0 at its start.
// Slot i lies at slots_offset + i * slot_stride from there, whichever segment it belongs to: a
// segment's first index is rounded up so that its first slot begins a page (the indices skipped
// stay ABSENT for ever). That distance is the slot's offset, the same in every process.
//
// The arrays are sized for max_slots at creation; what the pool has not grown to is a hole in the
// file and nobody touches it: each process bounds its indices by the segment table.
//
// The invariants I1 to I7 that comments cite stand in docs/concurrency.md.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "mempool/shm/words/words.hpp"

namespace mempool::shm {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPage = 4096;

constexpr std::uint64_t kMagic = 0x31'4c'4f'4f'50'4d'45'4dULL;         // "MEMPOOL1"
constexpr std::uint64_t kSegmentMagic = 0x31'47'45'53'50'4d'45'4dULL;  // "MEMPSEG1"
constexpr std::uint32_t kLayoutVersion = 3;
/// Of the release before. A daemon makes no use of such a pool, but can tell who is attached to it:
/// Header, where Geometry begins as here, ClientRecord and LaneRecord are the same.
constexpr std::uint32_t kFormerLayoutVersion = 2;

/// Features a reader may ignore, must know to attach, must know to attach for writing.
constexpr std::uint32_t kKnownCompat = 0;
constexpr std::uint32_t kKnownIncompat = 0;
constexpr std::uint32_t kKnownRoCompat = 0;

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
constexpr std::size_t kMaxPoolName = 64;

/// READY is stored last, with release: before it nothing in the segment may be believed.
enum class PoolState : std::uint32_t { kCreating = 0, kReady = 0x59444552 };

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

/// Page 0 of segment 0. Written once at creation, then only `state`.
struct Header {
    std::uint64_t magic;           ///< kMagic
    std::uint32_t layout_version;  ///< kLayoutVersion
    std::uint32_t header_bytes;    ///< sizeof(Header)
    std::uint32_t compat;          ///< feature bits, see kKnown…
    std::uint32_t incompat;
    std::uint32_t ro_compat;
    std::uint32_t class_count;   ///< size classes; 1
    std::uint64_t fingerprint;   ///< kFingerprint of the build that made it
    std::uint64_t created_at;    ///< seconds since the epoch
    std::uint8_t uuid[16];       ///< of the pool, random (RFC 4122 version 4)
    std::uint32_t generation_0;  ///< first generation, random: another pool's handle does not fit
    std::atomic<PoolState> state;
    char name[kMaxPoolName + 8];  ///< of the pool, zero-terminated
    Geometry geometry;            ///< of size class 0
    // Which directory has the lock of the daemon that made the pool; zeros: unknown.
    std::uint64_t runtime_device;
    std::uint64_t runtime_inode;
    std::uint8_t reserved[3808];  ///< zero; descriptors of further size classes go here
};

/// A ring's place among the rings: of each shard the one of magazines with slots (FULL), then the
/// one of magazines without (EMPTY).
enum class RingId : std::uint32_t {};

constexpr RingId full_ring(std::uint32_t shard) noexcept { return RingId{shard * kRingsPerShard}; }
constexpr RingId empty_ring(std::uint32_t shard) noexcept {
    return RingId{shard * kRingsPerShard + 1U};
}
/// What the word of a magazine says to which ring `r` has a hint.
constexpr MagazineState state_in(RingId r) noexcept {
    return raw(r) % kRingsPerShard == 0 ? MagazineState::kFull : MagazineState::kEmpty;
}

/// Head and tail of one ring. Each only hints at a position: the cells decide.
struct RingState {
    alignas(kCacheLine) std::atomic<std::uint64_t> head;
    alignas(kCacheLine) std::atomic<std::uint64_t> tail;
};

/// Bits of Live::options.
constexpr std::uint32_t kEraseOnPut = 1;

/// Page 1 of segment 0: what changes while the pool lives. Grouped by who writes how often.
struct Live {
    // Read by every get and put; written once a second, or when somebody begins to wait.
    alignas(kCacheLine) std::atomic<std::uint32_t> now;  ///< seconds of the pool's clock
    std::atomic<std::uint32_t> segment_count;  ///< publishes SegmentEntry and all it names
    std::atomic<std::uint32_t> options;
    std::atomic<std::uint32_t> waiters;  ///< clients asleep in get_for; a hint the daemon corrects
    std::atomic<std::uint32_t> quota;    ///< slots one client may hold; 0: no quota
    // Written by clients that find the pool exhausted, and by those who end that.
    alignas(kCacheLine) std::atomic<std::uint32_t> grow_wanted;
    std::atomic<std::uint32_t>
        wake_sequence;  ///< futex: changes when a magazine is given to waiters
    std::atomic<std::uint64_t> promised_until;  ///< ns of CLOCK_MONOTONIC: until then the depot's
                                                ///< slots are for those who have waited for long
    std::atomic<std::uint64_t> pulses_felt_at;  ///< ns of CLOCK_MONOTONIC: see pulse.hpp
    // Written by the daemon.
    alignas(kCacheLine) std::atomic<std::uint64_t> reclaimed;  ///< slots taken back from the dead
    std::atomic<std::uint64_t> deaths;                         ///< clients reclaimed
    std::atomic<std::uint64_t> grown;                          ///< segments added after creation
    std::atomic<std::uint64_t> grow_failures;                  ///< refused by the system
    std::atomic<std::uint32_t> daemon_pid;                     ///< 0 after a clean stop
    std::atomic<std::uint32_t> daemon_starts;
    std::atomic<std::uint32_t> growing;  ///< slots that the daemon is adding just now; 0: none
    std::atomic<std::uint32_t> growth_deaths;  ///< growths in a row that the daemon didn't outlive
    std::atomic<std::uint64_t> ticked_at;      ///< ns of CLOCK_BOOTTIME that `now` stands for
    std::atomic<std::uint32_t> ticked_in;      ///< inode of the time namespace it was read in
    std::uint8_t reserved[kPage - 192];
};

/// One segment's share of the arrays. Entries below Live::segment_count never change.
struct SegmentEntry {
    std::uint32_t first_index;
    std::uint32_t slot_count;
    std::uint32_t first_magazine;
    std::uint32_t magazine_count;
    std::uint64_t added_at;  ///< seconds since the epoch
    std::uint64_t object;    ///< random part of its object's name; 0: a memfd, without a name

    [[nodiscard]] constexpr std::uint32_t end_index() const noexcept {
        return first_index + slot_count;
    }
};

/// Page 0 of segment k > 0: enough to know it without its pool.
struct SegmentHeader {
    std::uint64_t magic;  ///< kSegmentMagic
    std::uint32_t layout_version;
    std::uint32_t number;   ///< k
    std::uint8_t uuid[16];  ///< the pool's
    SegmentEntry entry;
    std::uint8_t reserved[4032];
};

/// Who a client is. Written by the daemon; a client changes only its own `state`, to LEAVING.
struct ClientRecord {
    std::atomic<ClientState> state;
    std::uint32_t pid;  ///< as the kernel told the daemon, in `pid_namespace`
    std::uint32_t uid;
    std::uint32_t gid;
    /// Tells the process from a later one of the same pid: the inode of its pidfd where
    /// `time_namespace` is 0, else field 22 of /proc/PID/stat (clock ticks after boot) as read in
    /// that namespace. 0: unknown.
    std::uint64_t process;
    std::uint32_t attached_at;  ///< seconds of the pool's clock
    /// Grows when an attachment under this id ends. A client whose own number differs was ended.
    std::atomic<std::uint32_t> epoch;
    char command[16];              ///< as in /proc/PID/comm, zero-padded
    std::uint64_t token_hash;      ///< of the attachment's token (hash_of_token()); 0: none
    std::uint32_t pid_namespace;   ///< inode of the daemon's namespace; 0: unknown
    std::uint32_t time_namespace;  ///< see `process`
};

/// Bits of LaneRecord::revoked. Not zero: the next operation takes the slow way in.
constexpr std::uint32_t kRevoked = 1;  ///< a thief looks at this lane
constexpr std::uint32_t kFenced = 2;   ///< membarrier is refused here: the owner fences by itself
constexpr std::uint32_t kShutOut = 4;  ///< the client was ended: never cleared while it may live

/// LaneRecord::busy. A lane that searches has nothing in its hands but its two magazines, and says
/// kAtWork before it takes anything.
constexpr std::uint32_t kIdle = 0;
constexpr std::uint32_t kAtWork = 1;
constexpr std::uint32_t kSearching = 2;

/// A lane: the record of one thread's work. Counters only grow, through owner after owner.
struct LaneRecord {
    std::atomic<std::uint64_t> word;      ///< LaneWord
    std::atomic<std::uint32_t> loaded;    ///< MagazineId in use
    std::atomic<std::uint32_t> previous;  ///< MagazineId of its other one
    std::atomic<std::uint32_t> busy;      ///< kIdle, kAtWork, kSearching
    std::atomic<std::uint32_t> revoked;   ///< kRevoked, kFenced, kShutOut
    std::atomic<std::uint32_t> waiting;   ///< threads of it that sleep in get_for
    std::atomic<std::uint32_t> pulse;     ///< grows each time one of these looks for a slot
    std::atomic<std::uint64_t> gets;
    std::atomic<std::uint64_t> puts;
    std::atomic<std::uint64_t> exhausted;  ///< gets that found nothing
    std::atomic<std::uint64_t> refused;    ///< puts, adopts and detaches with a wrong handle
    std::atomic<std::uint64_t> steals;     ///< magazines taken from other lanes
    /// Of lane c, by client c as it leaves: its token, which proves that it said so; else 0.
    std::atomic<std::uint64_t> farewell;
    /// Of lane c, by client c: the address of segment 0 in its process, a page's, with the low bits
    /// of its epoch in place of zeros. Tells a process that has executed another program and
    /// attached again; 0: not said.
    std::atomic<std::uint64_t> mapped_at;
    std::atomic<std::uint64_t> counted;       ///< WaitWord: its threads in Live::waiters
    std::atomic<std::uint32_t> pulse_before;  ///< `pulse`, when it was looked at last
    std::uint8_t reserved1[28];
};

/// A slot: who has it, since when, what for. In one cache line, which the holder has anyway.
struct SlotRecord {
    std::atomic<std::uint64_t> word;  ///< SlotWord
    std::atomic<std::uint32_t> time;  ///< of the pool's clock, at the last get, adopt or detach
    std::atomic<std::uint32_t> tag;   ///< the user's
};

/// The fixed part of a magazine; its items (slot indices) follow at once.
struct MagazineHead {
    std::atomic<std::uint64_t> word;   ///< MagazineWord
    std::atomic<std::uint32_t> count;  ///< items in use
    std::uint32_t reserved;
};

constexpr std::uint64_t fold(std::uint64_t hash, std::uint64_t value) noexcept {
    return (hash ^ value) * 0x100000001b3ULL;  // FNV-1a, a word at a time
}

/// Folds every size that two builds must agree on: another ABI refuses to attach.
constexpr std::uint64_t kFingerprint = [] {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const std::uint64_t part :
         {std::uint64_t{sizeof(Header)}, std::uint64_t{sizeof(Live)},
          std::uint64_t{sizeof(RingState)}, std::uint64_t{sizeof(SegmentEntry)},
          std::uint64_t{sizeof(SegmentHeader)}, std::uint64_t{sizeof(ClientRecord)},
          std::uint64_t{sizeof(LaneRecord)}, std::uint64_t{sizeof(SlotRecord)},
          std::uint64_t{sizeof(MagazineHead)}, std::uint64_t{sizeof(Geometry)},
          std::uint64_t{alignof(Live)}, std::uint64_t{offsetof(Live, reserved)},
          std::uint64_t{offsetof(Header, geometry)}, std::uint64_t{kCacheLine},
          std::uint64_t{kPage}, std::uint64_t{kMaxSegments}, std::uint64_t{kMagazinesPerLane},
          std::uint64_t{kLanesPerClient},
          std::uint64_t{std::endian::native == std::endian::little ? 1U : 0U}}) {
        hash = fold(hash, part);
    }
    return hash;
}();

template <typename T>
constexpr bool kSharedLayout = std::is_standard_layout_v<T>&& std::is_trivially_destructible_v<T>;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<PoolState>::is_always_lock_free);
static_assert(std::atomic<ClientState>::is_always_lock_free);
static_assert(sizeof(std::atomic<std::uint64_t>) == 8 && sizeof(std::atomic<std::uint32_t>) == 4);

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

static_assert(kSharedLayout<Header> && sizeof(Header) == kPage);
static_assert(offsetof(Header, magic) == 0 && offsetof(Header, layout_version) == 8);
static_assert(offsetof(Header, header_bytes) == 12 && offsetof(Header, compat) == 16);
static_assert(offsetof(Header, incompat) == 20 && offsetof(Header, ro_compat) == 24);
static_assert(offsetof(Header, class_count) == 28 && offsetof(Header, fingerprint) == 32);
static_assert(offsetof(Header, created_at) == 40 && offsetof(Header, uuid) == 48);
static_assert(offsetof(Header, generation_0) == 64 && offsetof(Header, state) == 68);
static_assert(offsetof(Header, name) == 72 && offsetof(Header, geometry) == 144);
static_assert(offsetof(Header, runtime_device) == 272 && offsetof(Header, runtime_inode) == 280);
static_assert(offsetof(Header, reserved) == 288);

static_assert(kSharedLayout<RingState> && sizeof(RingState) == 128);
static_assert(offsetof(RingState, head) == 0 && offsetof(RingState, tail) == 64);

static_assert(kSharedLayout<Live> && sizeof(Live) == kPage);
static_assert(offsetof(Live, now) == 0 && offsetof(Live, segment_count) == 4);
static_assert(offsetof(Live, options) == 8 && offsetof(Live, waiters) == 12);
static_assert(offsetof(Live, quota) == 16);
static_assert(offsetof(Live, grow_wanted) == 64 && offsetof(Live, wake_sequence) == 68);
static_assert(offsetof(Live, promised_until) == 72 && offsetof(Live, pulses_felt_at) == 80);
static_assert(offsetof(Live, reclaimed) == 128 && offsetof(Live, deaths) == 136);
static_assert(offsetof(Live, grown) == 144 && offsetof(Live, grow_failures) == 152);
static_assert(offsetof(Live, daemon_pid) == 160 && offsetof(Live, daemon_starts) == 164);
static_assert(offsetof(Live, growing) == 168 && offsetof(Live, growth_deaths) == 172);
static_assert(offsetof(Live, ticked_at) == 176 && offsetof(Live, ticked_in) == 184);
static_assert(offsetof(Live, reserved) == 188);

static_assert(kSharedLayout<SegmentEntry> && sizeof(SegmentEntry) == 32);
static_assert(offsetof(SegmentEntry, first_index) == 0 && offsetof(SegmentEntry, slot_count) == 4);
static_assert(offsetof(SegmentEntry, first_magazine) == 8);
static_assert(offsetof(SegmentEntry, magazine_count) == 12);
static_assert(offsetof(SegmentEntry, added_at) == 16 && offsetof(SegmentEntry, object) == 24);

static_assert(kSharedLayout<SegmentHeader> && sizeof(SegmentHeader) == kPage);
static_assert(offsetof(SegmentHeader, magic) == 0 && offsetof(SegmentHeader, number) == 12);
static_assert(offsetof(SegmentHeader, layout_version) == 8);
static_assert(offsetof(SegmentHeader, uuid) == 16 && offsetof(SegmentHeader, entry) == 32);

static_assert(kSharedLayout<ClientRecord> && sizeof(ClientRecord) == 64);
static_assert(offsetof(ClientRecord, state) == 0 && offsetof(ClientRecord, pid) == 4);
static_assert(offsetof(ClientRecord, uid) == 8 && offsetof(ClientRecord, gid) == 12);
static_assert(offsetof(ClientRecord, process) == 16 && offsetof(ClientRecord, attached_at) == 24);
static_assert(offsetof(ClientRecord, epoch) == 28 && offsetof(ClientRecord, command) == 32);
static_assert(offsetof(ClientRecord, token_hash) == 48);
static_assert(offsetof(ClientRecord, pid_namespace) == 56);
static_assert(offsetof(ClientRecord, time_namespace) == 60);

static_assert(kSharedLayout<LaneRecord> && sizeof(LaneRecord) == 128);
static_assert(offsetof(LaneRecord, word) == 0 && offsetof(LaneRecord, loaded) == 8);
static_assert(offsetof(LaneRecord, previous) == 12 && offsetof(LaneRecord, busy) == 16);
static_assert(offsetof(LaneRecord, revoked) == 20 && offsetof(LaneRecord, waiting) == 24);
static_assert(offsetof(LaneRecord, gets) == 32 && offsetof(LaneRecord, puts) == 40);
static_assert(offsetof(LaneRecord, exhausted) == 48 && offsetof(LaneRecord, refused) == 56);
static_assert(offsetof(LaneRecord, steals) == 64 && offsetof(LaneRecord, farewell) == 72);
static_assert(offsetof(LaneRecord, mapped_at) == 80 && offsetof(LaneRecord, counted) == 88);
static_assert(offsetof(LaneRecord, pulse) == 28 && offsetof(LaneRecord, pulse_before) == 96);

static_assert(kSharedLayout<SlotRecord> && sizeof(SlotRecord) == 16);
static_assert(offsetof(SlotRecord, word) == 0 && offsetof(SlotRecord, time) == 8);
static_assert(offsetof(SlotRecord, tag) == 12);

static_assert(kSharedLayout<MagazineHead> && sizeof(MagazineHead) == 16);
static_assert(offsetof(MagazineHead, word) == 0 && offsetof(MagazineHead, count) == 8);

}  // namespace mempool::shm
