// A pool in anonymous shared memory, made step by step as the daemon makes one.
//
// Used by tests of the core: threads share the one mapping, forked children inherit it. No object
// in /dev/shm, no socket. Not thread-safe itself; what it hands out is as safe as the core.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/recovery/reclaim.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm::test {

/// Small on purpose: exhaustion, half-full magazines and full rings are a few operations away.
struct PoolOptions {
    std::uint64_t slot_size = 64;
    std::uint32_t slots = 16;     ///< of segment 0
    std::uint32_t max_slots = 0;  ///< 0: as many as `slots`
    std::uint32_t capacity = 4;   ///< of a magazine
    std::uint32_t client_count = 4;
    std::uint16_t shards = 1;
};

/// Rounds of an audit while threads work: one may be off the processor, between a word and what
/// goes with it, for several time slices.
constexpr int kPatientRounds = 50;

constexpr std::uint32_t kFirstGeneration = 0x5000'0000;

/// Owns the mapping. A reserved range of the pool's full size: untouched pages cost nothing.
class TestPool {
public:
    explicit TestPool(const PoolOptions& options = {}) {
        const Shape shape{.slot_size = options.slot_size,
                          .max_slots = options.max_slots != 0 ? options.max_slots : options.slots,
                          .magazine_capacity = options.capacity,
                          .client_count = options.client_count,
                          .shard_count = options.shards};
        const auto geometry = make_geometry(shape);
        if (!geometry) {
            throw std::invalid_argument("the test asks for an impossible pool");
        }
        bytes_ = geometry->range_bytes;
        void* base = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "mmap");
        }
        pool_ = Pool(static_cast<std::byte*>(base), *geometry);
        write_header(
            pool_,
            {.name = "test", .uuid = {1, 2, 3}, .first_generation = kFirstGeneration, .now = 1000});
        announce_segment(pool_, 0, next_segment(*geometry, 0, options.slots, nullptr, 1000));
        mark_ready(pool_);
    }
    TestPool(const TestPool&) = delete;
    TestPool& operator=(const TestPool&) = delete;
    ~TestPool() { ::munmap(pool_.base(), bytes_); }

    [[nodiscard]] const Pool& pool() const noexcept { return pool_; }
    [[nodiscard]] std::uint32_t limit() const noexcept { return pool_.index_limit(); }
    /// Bytes before the slots: all that decides anything.
    [[nodiscard]] std::size_t metadata_bytes() const noexcept {
        return pool_.geometry().slots_offset;
    }
    [[nodiscard]] std::uint32_t slots() const noexcept {
        std::uint32_t slots = 0;
        for (std::uint32_t s = 0; s < pool_.segment_count(); ++s) {
            slots += pool_.segment(s).slot_count;
        }
        return slots;
    }
    /// The entry that the next growth by `slots` announces.
    [[nodiscard]] SegmentEntry next_entry(std::uint32_t slots) const noexcept {
        const std::uint32_t number = pool_.segment_count();
        return next_segment(pool_.geometry(), number, slots, &pool_.segment(number - 1), 1001);
    }
    void grow(std::uint32_t slots) {
        announce_segment(pool_, pool_.segment_count(), next_entry(slots));
    }

    /// Makes `id` an attached client, as the daemon does.
    void attach(ClientId id) {
        pool_.client(id).pid = 4000 + raw(id);
        pool_.client(id).state.store(ClientState::kActive, std::memory_order_release);
    }
    /// Attaches `client` if need be, claims lane `id` for it and equips it.
    [[nodiscard]] Lane open(LaneId id, ClientId client) {
        if (client != kDaemonClient &&
            pool_.client(client).state.load(std::memory_order_acquire) == ClientState::kFree) {
            attach(client);
        }
        if (id != kDaemonLane && !try_claim_lane(pool_, id, client)) {
            throw std::logic_error("the lane is taken");
        }
        Lane lane(pool_, id, client, pool_.client(client).epoch.load());
        if (!lane.open()) {
            throw std::logic_error("no magazines for the lane");
        }
        return lane;
    }
    /// As the daemon does after `id` died: its record, its reclaim, its id free again.
    Reclaimed bury(ClientId id) {
        pool_.client(id).state.store(ClientState::kDead, std::memory_order_release);
        const Reclaimed done = reclaim(
            pool_, [id](ClientId c) { return c == id; }, nullptr);
        pool_.client(id).state.store(ClientState::kFree, std::memory_order_release);
        return done;
    }

private:
    Pool pool_;
    std::size_t bytes_ = 0;
};

/// Gets until nothing is left, at most `most`.
inline std::vector<Taken> get_all(Lane& lane, std::uint32_t limit, std::size_t most = SIZE_MAX) {
    std::vector<Taken> taken;
    Taken t;
    while (taken.size() < most && lane.get(limit, t) == GetResult::kOk) {
        taken.push_back(t);
    }
    return taken;
}

/// Returns a slot that the lane's client holds, shown or not.
inline PutResult show_and_put(Lane& lane, Taken t) {
    const PutResult shown = lane.show(t);
    return shown == PutResult::kOk ? lane.put_shown(t) : shown;
}

inline const char* name_of(Fault fault) {
    constexpr std::array kNames = {"slot state",     "slot unlisted",  "slot holder",
                                   "magazine state", "magazine owner", "magazine item",
                                   "magazine hint",  "ring",           "lane state",
                                   "lane owner",     "client record"};
    return kNames.at(static_cast<std::size_t>(fault));
}

inline std::string text_of(const std::vector<Finding>& findings) {
    std::string text;
    for (const Finding& f : findings) {
        text += std::string(name_of(f.fault)) + " at " + std::to_string(f.where) + "; ";
    }
    return text;
}

/// A magazine with slots in the depot, which must have one.
inline MagazineId magazine_in_depot(const Pool& pool) {
    Depot depot(pool);
    const MagazineId m = depot.claim_full(kDaemonLane);
    depot.give(m);
    return m;
}

/// Empty if the pool is sound at rest: every slot in one state, `held` of them held or detached,
/// nothing for the audit to find, and every free slot can be got once and only once. Else what is
/// wrong. Client and lane `checker` must be free; they are free again afterwards.
inline std::string fault_at_rest(TestPool& test, std::uint64_t held, std::uint32_t checker = 1) {
    const Pool& pool = test.pool();
    if (const auto findings = audit(pool, 0).findings; !findings.empty()) {
        return "audit: " + text_of(findings);
    }
    const Census census = take_census(pool);
    if (census.unknown != 0 ||
        census.free + census.cached + census.held + census.detached != census.slots ||
        census.held + census.detached != held) {
        return "census: " + std::to_string(census.free) + " free, " +
               std::to_string(census.cached) + " cached, " + std::to_string(census.held) +
               " held, " + std::to_string(census.detached) + " detached of " +
               std::to_string(census.slots);
    }
    Lane lane = test.open(LaneId{checker}, ClientId{checker});
    std::vector<bool> seen(pool.geometry().index_capacity);
    const std::vector<Taken> all = get_all(lane, test.limit(), census.slots + 1);
    std::string wrong;
    for (const Taken& t : all) {
        if (seen[raw(t.index)]) {
            wrong = "slot " + std::to_string(raw(t.index)) + " was handed out twice";
        }
        seen[raw(t.index)] = true;
    }
    // What other lanes have cached is within reach too: they are at rest.
    if (wrong.empty() && all.size() != census.free + census.cached) {
        wrong = std::to_string(all.size()) + " slots could be got, " +
                std::to_string(census.free + census.cached) + " are free or cached";
    }
    for (const Taken& t : all) {
        if (lane.put_private(t) != PutResult::kOk && wrong.empty()) {
            wrong = "slot " + std::to_string(raw(t.index)) + " could not be returned";
        }
    }
    lane.close();
    free_lane(pool, LaneId{checker});
    pool.client(ClientId{checker}).state.store(ClientState::kFree, std::memory_order_release);
    return wrong;
}

}  // namespace mempool::shm::test
