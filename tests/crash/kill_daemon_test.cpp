// The daemon killed after every instruction of its own work, reclaim and growth, and a new one
// that takes over: nothing is lost, nothing is doubled, nothing appears from nowhere.
//
// What a SIGKILL leaves is the shared memory as it stands. So the child is stepped through once,
// and each time an instruction has changed that memory, a copy of it is what the next daemon finds;
// the child goes on with the original. A death between two changes leaves what the former left.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"
#include "mempool/shm/recovery/end_client.hpp"
#include "mempool/shm/recovery/repair.hpp"

namespace mempool::test {
namespace {

using shm::ClientId;
using shm::Depot;
using shm::LaneId;
using shm::SlotIndex;
using shm::Taken;
using shm::test::get_all;

class KillDaemon : public Stepped {
protected:
    // Runs `work` in the child and `check` on what each change of the memory leaves.
    static void for_each_death(World& world, const std::function<int()>& work,
                               const std::function<std::string()>& check) {
        std::byte* now = world.pool().base();
        const std::size_t bytes = world.test.metadata_bytes();
        std::vector<std::byte> before(now, now + bytes);
        std::uint64_t deaths = 0;
        Stepper child(work);
        for (bool on = true; on;) {
            on = child.step();
            if (on && std::memcmp(before.data(), now, bytes) == 0) {
                continue;
            }
            std::memcpy(before.data(), now, bytes);
            ASSERT_EQ(check(), "") << "killed after " << child.steps() << " instructions";
            std::memcpy(now, before.data(), bytes);
            ++deaths;
        }
        const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
        summarize("daemon killed", test->name(), child.steps(), deaths, 0);
        EXPECT_EQ(child.finish(), 0);
        EXPECT_GT(deaths, 10U);
    }
};

bool victim_only(ClientId c) { return c == kVictim; }
bool victim_or_daemon(ClientId c) { return c == kVictim || c == shm::kDaemonClient; }

// A daemon starts: whoever is dead is reclaimed, the former daemon with it. Then all is there.
std::string fault_after_restart(World& world, std::uint64_t still_out) {
    reclaim(world.pool(), victim_or_daemon, nullptr);
    const shm::Reclaimed again = reclaim(world.pool(), victim_or_daemon, nullptr);
    if (again.slots + again.magazines + again.lanes + again.hints != 0) {
        return "a second reclaim found more";
    }
    return fault_at_rest(world.test, still_out, raw(kChecker));
}

// Two clients; the victim died with slots in its hands, one of them shown, in its lane, and in the
// middle of an exchange of magazines.
void prepare_death(World& world) {
    world.open_both();
    world.victim_holds = get_all(*world.victim, world.test.limit(), 5);
    (void)world.victim->show(world.victim_holds.front());
    world.other_holds = get_all(*world.other, world.test.limit(), 2);
    Depot depot(world.pool());
    (void)depot.claim_full(LaneId{2});
    world.pool().client(kVictim).state.store(shm::ClientState::kDead);
}

TEST_F(KillDaemon, InReclaimLosesNothing) {
    World world(kSmall);
    prepare_death(world);
    for_each_death(
        world,
        [&] {
            reclaim(world.pool(), victim_only, nullptr);
            return 0;
        },
        [&] { return fault_after_restart(world, 2); });
}

TEST_F(KillDaemon, InReclaimThatErasesLosesNothing) {
    World world(kSmall);
    prepare_death(world);
    for_each_death(
        world,
        [&] {
            reclaim(world.pool(), victim_only, [](SlotIndex) {});
            return 0;
        },
        [&] { return fault_after_restart(world, 2); });
}

TEST_F(KillDaemon, InReclaimAfterARestartLosesNothing) {
    World world(kSmall);
    prepare_death(world);
    // The former daemon died as well, with slots in its hands and in its lane.
    shm::Lane daemon = world.test.open(shm::kDaemonLane, shm::kDaemonClient);
    ASSERT_EQ(get_all(daemon, world.test.limit(), 1).size(), 1U);
    for_each_death(
        world,
        [&] {
            reclaim(world.pool(), victim_or_daemon, nullptr);
            return 0;
        },
        [&] { return fault_after_restart(world, 2); });
}

TEST_F(KillDaemon, InReclaimOfDetachedSlotsLosesNothing) {
    World world(kSmall);
    prepare_death(world);
    for (const Taken& t : world.victim_holds) {
        ASSERT_EQ(world.victim->detach(t, world.test.limit()), shm::PutResult::kOk);
    }
    for_each_death(
        world,
        [&] {
            reclaim_detached(world.pool(), ~0U, [](SlotIndex) {});
            return 0;
        },
        [&] {
            reclaim(world.pool(), victim_or_daemon, nullptr);
            reclaim_detached(world.pool(), ~0U, nullptr);
            return fault_after_restart(world, 2);
        });
}

// The client that is ended lives, with slots in its hands and in an idle lane. The next daemon goes
// on with what the former began, and only then the client dies.
TEST_F(KillDaemon, InShutOutLosesNothing) {
    World world(kSmall);
    world.open_both();
    world.victim_holds = get_all(*world.victim, world.test.limit(), 3);
    world.other_holds = get_all(*world.other, world.test.limit(), 2);
    const shm::Pool& pool = world.pool();
    const auto end = [&pool] {
        shm::raise_epoch(pool, kVictim, 1);
        return shm::shut_out(pool, kVictim).busy == 0 ? 0 : 1;
    };
    for_each_death(world, end, [&]() -> std::string {
        reclaim(
            pool, [](ClientId c) { return c == shm::kDaemonClient; }, nullptr);
        if (end() != 0 || (world.victim->record().revoked.load() & shm::kShutOut) == 0) {
            return "the lane is not shut out";
        }
        return take_census(pool).cached > 3 ? "the ended client has slots in its lane"
                                            : fault_after_restart(world, 2);
    });
}

TEST_F(KillDaemon, InTakingFromAnEndedClientLosesNothing) {
    World world(kSmall);
    world.open_both();
    world.victim_holds = get_all(*world.victim, world.test.limit(), 3);
    world.other_holds = get_all(*world.other, world.test.limit(), 2);
    const shm::Pool& pool = world.pool();
    shm::raise_epoch(pool, kVictim, 1);
    ASSERT_EQ(shm::shut_out(pool, kVictim).busy, 0U);
    for_each_death(
        world,
        [&] {
            shm::take_from_ended(pool, kVictim, [](SlotIndex) {});
            return 0;
        },
        [&]() -> std::string {
            reclaim(
                pool, [](ClientId c) { return c == shm::kDaemonClient; }, nullptr);
            shm::take_from_ended(pool, kVictim, nullptr);
            return take_census(pool).held_by[raw(kVictim)] != 0 ? "the ended client holds slots"
                                                                : fault_after_restart(world, 2);
        });
}

TEST_F(KillDaemon, InRehintLosesNothing) {
    World world(kSmall);
    prepare_death(world);
    // No hint is left at all.
    const shm::Geometry& g = world.pool().geometry();
    std::memset(world.pool().base() + g.rings_offset, 0, g.records_offset - g.rings_offset);
    for_each_death(
        world,
        [&] {
            rehint(world.pool());
            return 0;
        },
        [&] { return fault_after_restart(world, 2); });
}

TEST_F(KillDaemon, InRepairComesToTheSameEnd) {
    World world(kSmall);
    prepare_death(world);
    const shm::Pool& pool = world.pool();
    // Of everything that is mended beside clients, something.
    pool.ring_state(shm::full_ring(0)).tail.fetch_add(std::uint64_t{1} << 60U);
    Depot depot(pool);
    const shm::MagazineId hidden = depot.claim_room(shm::kDaemonLane);
    depot.give(hidden);
    pool.magazine(hidden).count.store(~0U);
    // The last free slot is in no magazine that can be.
    SlotIndex lost{};
    shm::for_each_slot(pool, [&](SlotIndex i) {
        lost = shm::SlotWord{pool.word(i).load()}.state() == shm::SlotState::kFree ? i : lost;
    });
    const shm::Generation generation = shm::SlotWord{pool.word(lost).load()}.generation();
    pool.word(lost).store(shm::SlotWord::free(generation, shm::MagazineId{shm::kMaxPlace}).bits);
    pool.word(world.victim_holds[0].index)
        .store(shm::SlotWord::held(shm::Generation{4}, ClientId{shm::kMaxPlace}).bits);
    const auto mend = [&] { return repair(pool, victim_or_daemon, true, nullptr, 1).total(); };
    for_each_death(
        world,
        [&] {
            mend();
            return 0;
        },
        [&]() -> std::string {
            mend();
            return mend() != 0 ? "a second repair found more" : fault_after_restart(world, 2);
        });
}

// Slots of 16 KiB: four indices begin a page together, so that a segment of five leaves a gap.
constexpr shm::test::PoolOptions kGrowing{
    .slot_size = 16384, .slots = 9, .max_slots = 100, .capacity = 4};

TEST_F(KillDaemon, InGrowthLosesNothingAndAddsNothing) {
    World world(kGrowing);
    world.open_both();
    ASSERT_EQ(world.pool().geometry().index_granule, 4U);
    for_each_death(
        world,
        [&] {
            world.test.grow(11);
            return 0;
        },
        [&] {
            // The next daemon may grow by another number, and by another once more.
            const bool announced = world.pool().segment_count() == 2;
            if (!announced) {
                world.test.grow(5);
            }
            world.test.grow(6);
            // All magazines pass through a dead client's hands, so that reclaim looks into each.
            Depot depot(world.pool());
            while (depot.claim_full(LaneId{2}) != shm::kNoMagazine ||
                   depot.claim_room(LaneId{2}) != shm::kNoMagazine) {
            }
            const std::string fault = fault_after_restart(world, 0);
            const std::uint64_t slots = take_census(world.pool()).free;
            return fault + (slots == (announced ? 26U : 20U) ? "" : " slots from nowhere");
        });
}

// The daemon goes on step by step while a client works beside it: neither waits for the other.
TEST_F(KillDaemon, StoppedInReclaimHoldsUpNobody) {
    for (const std::uint64_t stride : {13U, 101U}) {
        World world(kSmall);
        prepare_death(world);
        Stepper daemon([&] {
            reclaim(world.pool(), victim_only, [](SlotIndex) {});
            return 0;
        });
        std::vector<Taken>& held = world.other_holds;
        for (std::uint64_t round = 0; daemon.step(stride); ++round) {
            Taken t;
            if (round % 5 < 3 && world.other->get(world.test.limit(), t) == shm::GetResult::kOk) {
                held.push_back(t);
            } else if (!held.empty()) {
                ASSERT_EQ(world.other->put_private(held.back()), shm::PutResult::kOk);
                held.pop_back();
            }
        }
        EXPECT_EQ(daemon.finish(), 0);
        world.pool().client(kVictim).state.store(shm::ClientState::kFree);
        const std::size_t out = held.size();
        world.other->close();
        ASSERT_EQ(fault_after_restart(world, out), "");
    }
}

}  // namespace
}  // namespace mempool::test
