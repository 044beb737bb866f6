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

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "mempool/shm/words/geometry.hpp"
#include "mempool/shm/words/words.hpp"

namespace mempool::shm {

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

constexpr std::size_t kMaxPoolName = 64;

/// READY is stored last, with release: before it nothing in the segment may be believed.
enum class PoolState : std::uint32_t { kCreating = 0, kReady = 0x59444552 };

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

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<PoolState>::is_always_lock_free);
static_assert(std::atomic<ClientState>::is_always_lock_free);
static_assert(sizeof(std::atomic<std::uint64_t>) == 8 && sizeof(std::atomic<std::uint32_t>) == 4);

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
