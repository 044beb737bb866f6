// Threads as clients: they get, return, hand over and vanish in the middle of it, while one thread
// reclaims what the vanished left, and their ids are used again.
//
// Self-checking: a slot in use carries a stamp in its bytes and a mark beside the pool. Two holders
// of one slot show as a mark already set, a stamp overwritten, or a data race under TSan.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::TestPool;

constexpr std::uint32_t kWorkers = 5;
constexpr int kLivesOfAWorker = 300;
constexpr std::uint32_t kMailboxes = 4;

struct World {
    explicit World(const test::PoolOptions& options)
        : test(options), used(test.pool().geometry().index_capacity) {}

    TestPool test;
    std::vector<std::atomic<std::uint32_t>> used;               // 1 while somebody has the slot
    std::array<std::atomic<std::uint64_t>, kMailboxes> mail{};  // index + 1 | generation
    std::atomic<std::uint32_t> working{kWorkers};
    std::atomic<std::uint64_t> gets{0};

    std::uint64_t* payload(SlotIndex i) const {
        return reinterpret_cast<std::uint64_t*>(test.pool().slot(i));
    }
    static std::uint64_t stamp_of(const Taken& t) {
        return (std::uint64_t{raw(t.generation)} << 32U) | (raw(t.index) + 1U);
    }
    void mark(const Taken& t) {
        EXPECT_EQ(used[raw(t.index)].exchange(1, std::memory_order_relaxed), 0U);
        stamp(t);
    }
    void stamp(const Taken& t) const {
        std::uint64_t* bytes = payload(t.index);
        bytes[0] = stamp_of(t);
        bytes[7] = ~bytes[0];
    }
    void check(const Taken& t) const {
        const std::uint64_t* bytes = payload(t.index);
        EXPECT_EQ(bytes[0], stamp_of(t));
        EXPECT_EQ(bytes[7], ~stamp_of(t));
    }
    void unmark(const Taken& t) {
        check(t);
        EXPECT_EQ(used[raw(t.index)].exchange(0, std::memory_order_relaxed), 1U);
    }
};

// One life of a client, from attach to an orderly end or to a death at a random point.
class Life {
public:
    Life(World& world, ClientId client, std::mt19937& random)
        : world_(world), client_(client), random_(random) {}

    // True if it ended in order, having returned what it had.
    bool run() {
        const Pool& pool = world_.test.pool();
        std::uint32_t id = raw(client_);  // the home lane
        EXPECT_TRUE(try_claim_lane(pool, LaneId{id}, client_));
        if (random_() % 2 == 0) {  // or one of those for further threads
            for (id = pool.geometry().shape.client_count; id < pool.geometry().lane_count; ++id) {
                if (try_claim_lane(pool, LaneId{id}, client_)) {
                    break;
                }
            }
        }
        lane_.emplace(pool, LaneId{id}, client_, 0);
        EXPECT_TRUE(lane_->open());
        const std::uint_fast32_t steps = random_() % 400;
        for (std::uint_fast32_t k = 0; k < steps; ++k) {
            step();
        }
        if (random_() % 3 == 0) {
            return finish(LaneId{id});
        }
        if (random_() % 2 == 0) {  // with a third magazine in its hands
            Depot depot(pool);
            (void)depot.claim_full(LaneId{id});
        }
        return false;
    }

private:
    void step() {
        switch (random_() % 8) {
            case 0:
            case 1:
            case 2:
                get();
                break;
            case 3:
            case 4:
            case 5:
                put();
                break;
            case 6:
                send();
                break;
            default:
                receive();
        }
    }

    void get() {
        Taken t;
        if (lane_->get(world_.test.limit(), t) == GetResult::kOk) {
            world_.mark(t);
            mine_.push_back(t);
            world_.gets.fetch_add(1, std::memory_order_relaxed);
        }
    }

    void put() {
        if (mine_.empty()) {
            return;
        }
        std::swap(mine_[random_() % mine_.size()], mine_.back());
        const Taken t = mine_.back();
        mine_.pop_back();
        world_.unmark(t);
        if (random_() % 2 == 0) {
            EXPECT_EQ(lane_->put(t, world_.test.limit()),
                      PutResult::kStale);  // nobody was shown it
            EXPECT_EQ(lane_->put_private(t), PutResult::kOk);
        } else {
            EXPECT_EQ(lane_->show(t), PutResult::kOk);
            EXPECT_EQ(random_() % 2 == 0 ? lane_->put(t, world_.test.limit()) : lane_->put_shown(t),
                      PutResult::kOk);
        }
        EXPECT_EQ(lane_->put(t, world_.test.limit()), PutResult::kStale);
    }

    // Through a mailbox, detached or still held; what lay in it is taken out and returned.
    void send() {
        if (mine_.empty()) {
            return;
        }
        const Taken t = mine_.back();
        mine_.pop_back();
        const bool detach = random_() % 2 == 0;
        EXPECT_EQ(detach ? lane_->detach(t, world_.test.limit()) : lane_->show(t), PutResult::kOk);
        exchange(World::stamp_of(t));
    }

    void receive() { exchange(0); }

    void exchange(std::uint64_t in) {
        const std::uint64_t out =
            world_.mail[random_() % kMailboxes].exchange(in, std::memory_order_acq_rel);
        if (out == 0) {
            return;
        }
        const Taken sent{SlotIndex{static_cast<std::uint32_t>(out) - 1U},
                         Generation{static_cast<std::uint32_t>(out >> 32U)}};
        Taken t = sent;
        const PutResult result = lane_->adopt(t, world_.test.limit());
        if (result == PutResult::kOk) {
            world_.check(sent);
            world_.stamp(t);
            mine_.push_back(t);
        } else {  // its sender died before we adopted it
            EXPECT_EQ(result, PutResult::kStale);
        }
    }

    bool finish(LaneId id) {
        while (!mine_.empty()) {
            put();
        }
        lane_->close();
        if (raw(id) != raw(client_)) {
            free_lane(world_.test.pool(), id);
        }
        free_lane(world_.test.pool(), LaneId{raw(client_)});
        return true;
    }

    World& world_;
    ClientId client_;
    std::mt19937& random_;
    std::optional<Lane> lane_;
    std::vector<Taken> mine_;
};

// What the daemon does at attach: a record nobody has.
std::optional<ClientId> attach(const Pool& pool) {
    for (std::uint32_t c = 1; c < pool.geometry().shape.client_count; ++c) {
        ClientState none = ClientState::kFree;
        if (pool.client(ClientId{c})
                .state.compare_exchange_strong(none, ClientState::kActive,
                                               std::memory_order_acq_rel)) {
            return ClientId{c};
        }
    }
    return std::nullopt;
}

void work(World& world, std::uint32_t seed) {
    std::mt19937 random(seed);
    for (int life = 0; life < kLivesOfAWorker;) {
        const auto client = attach(world.test.pool());
        if (!client) {
            std::this_thread::yield();
            continue;
        }
        const bool in_order = Life(world, *client, random).run();
        world.test.pool().client(*client).state.store(
            in_order ? ClientState::kLeaving : ClientState::kDead, std::memory_order_release);
        ++life;
    }
    world.working.fetch_sub(1, std::memory_order_acq_rel);
}

// What the daemon does all the time: takes back what the dead and the leaving own, then frees ids.
std::uint64_t reclaim_gone(World& world) {
    const Pool& pool = world.test.pool();
    const std::uint32_t count = pool.geometry().shape.client_count;
    std::vector<bool> gone(count);
    for (std::uint32_t c = 1; c < count; ++c) {
        const ClientState state = pool.client(ClientId{c}).state.load(std::memory_order_acquire);
        gone[c] = state == ClientState::kDead || state == ClientState::kLeaving;
    }
    const auto dead = [&gone](ClientId c) { return gone[raw(c)]; };
    const Reclaimed done = reclaim(pool, dead, [&world](SlotIndex i) {
        world.used[raw(i)].store(0, std::memory_order_relaxed);
        std::fill_n(world.payload(i), 8, std::uint64_t{0});
    });
    for (std::uint32_t c = 1; c < count; ++c) {
        if (gone[c]) {
            pool.client(ClientId{c}).state.store(ClientState::kFree, std::memory_order_release);
        }
    }
    return done.slots;
}

std::uint32_t hints_in(const Pool& pool, RingId id) {
    const Ring ring(pool, id);
    std::uint32_t hints = 0;
    for (std::uint32_t k = 0; k < ring.capacity(); ++k) {
        hints += ring.cell(k) != kNoMagazine ? 1U : 0U;
    }
    return hints;
}

void run_world(const test::PoolOptions& options) {
    const auto world = std::make_unique<World>(options);
    std::vector<std::thread> threads;
    for (std::uint32_t w = 0; w < kWorkers; ++w) {
        threads.emplace_back(work, std::ref(*world), 100 + w);
    }
    std::uint64_t reclaimed = 0;
    std::uint32_t most_hints = 0;
    const Pool& pool = world->test.pool();
    for (std::uint32_t round = 0; world->working.load(std::memory_order_acquire) != 0; ++round) {
        reclaimed += reclaim_gone(*world);
        std::array<std::uint32_t, kRingsPerShard> hints{};
        for_each_ring(pool, [&](RingId r) { hints[raw(r) % hints.size()] += hints_in(pool, r); });
        most_hints = std::max({most_hints, hints[0], hints[1]});
        if (round % 64 == 0) {
            for (const Finding& f : audit(world->test.pool(), test::kPatientRounds).findings) {
                ADD_FAILURE() << test::name_of(f.fault) << " at " << f.where;
            }
        }
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    reclaimed += reclaim_gone(*world);
    EXPECT_GT(reclaimed, 0U);
    EXPECT_GT(world->gets.load(), 1000U);
    // Hints too many come and go; they never come near to filling the rings.
    EXPECT_LT(most_hints, pool.geometry().ring_capacity * pool.shard_count());

    // What still lies in a mailbox, detached by somebody long gone, is all that is not free.
    std::uint32_t detached = 0;
    for (std::atomic<std::uint32_t>& used : world->used) {
        detached += used.load();
    }
    EXPECT_EQ(take_census(world->test.pool()).detached, detached);
    EXPECT_EQ(take_census(world->test.pool()).cached, 0U);
    EXPECT_EQ(test::fault_at_rest(world->test, detached), "");
}

TEST(Stress, SmallMagazinesAndConstantExhaustion) {
    run_world({.slots = 24, .capacity = 2, .client_count = 8});
}

TEST(Stress, MagazinesOfOneSlot) { run_world({.slots = 12, .capacity = 1, .client_count = 7}); }

TEST(Stress, MoreShardsThanMagazines) {
    run_world({.slots = 6, .capacity = 2, .client_count = 8, .shards = 16});
}

TEST(Stress, SmallMagazinesInSeveralShards) {
    run_world({.slots = 24, .capacity = 2, .client_count = 8, .shards = 4});
}

TEST(Stress, FewClientIdsUsedAgainAndAgain) {  // I5
    run_world({.slots = 64, .capacity = 8, .client_count = 4});
}

TEST(Stress, ManySlotsInLargeMagazines) {
    run_world({.slots = 512, .capacity = 64, .client_count = 16, .shards = 8});
}

}  // namespace
}  // namespace mempool::shm
