// Two clients stepped by turns, a random number of instructions each, one killed at a random
// moment and reclaimed while the other stands still in the middle of what it does.
//
// Self-checking: each slot carries the mark of who has it; finding another's is two holders.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

using shm::ClientId;
using shm::GetResult;
using shm::Lane;
using shm::LaneId;
using shm::PutResult;
using shm::SlotIndex;
using shm::Taken;

constexpr int kTwoHolders = 3;
constexpr int kRefused = 4;

std::atomic<std::uint64_t>& mark_of(const shm::Pool& pool, SlotIndex i) {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(pool.slot(i));
}

// Runs in a child: gets and returns at random, on a lane that it opens and perhaps closes.
int work(shm::test::TestPool& test, std::uint32_t client, std::uint32_t seed) {
    std::mt19937 random(seed);
    Lane lane(test.pool(), LaneId{client}, ClientId{client}, 0);
    if (!lane.open()) {
        return kRefused;
    }
    std::array<Taken, 16> held{};
    std::size_t count = 0;
    for (int k = 0; k < 14; ++k) {
        Taken t;
        if (count < held.size() && random() % 5 < 3) {
            if (lane.get(test.limit(), t) != GetResult::kOk) {
                continue;
            }
            if (mark_of(test.pool(), t.index).exchange(client) != 0) {
                return kTwoHolders;
            }
            held.at(count++) = t;
        } else if (count > 0) {
            t = held.at(--count);
            if (mark_of(test.pool(), t.index).exchange(0) != client) {
                return kTwoHolders;
            }
            const bool shown = random() % 2 == 0;
            if ((shown ? shm::test::show_and_put(lane, t) : lane.put_private(t)) !=
                PutResult::kOk) {
                return kRefused;
            }
        }
    }
    if (random() % 2 == 0) {
        lane.close();
    }
    return 0;
}

void bury(shm::test::TestPool& test, std::uint32_t client) {
    const auto dead = [client](ClientId c) { return raw(c) == client; };
    reclaim(test.pool(), dead, [&test](SlotIndex i) { mark_of(test.pool(), i).store(0); });
    test.pool().client(ClientId{client}).state.store(shm::ClientState::kFree);
}

// One run: clients 2 and 3 by turns; each may be killed on the way, and is buried at once.
void run(std::uint32_t seed, std::uint32_t slots, std::uint32_t capacity) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    shm::test::TestPool test({.slots = slots, .capacity = capacity});
    std::mt19937 random(seed);
    std::array<std::unique_ptr<Stepper>, 2> children;
    std::array<bool, 2> on = {true, true};
    for (std::uint32_t k = 0; k < 2; ++k) {
        test.attach(ClientId{2 + k});
        ASSERT_TRUE(try_claim_lane(test.pool(), LaneId{2 + k}, ClientId{2 + k}));
        children.at(k) =
            std::make_unique<Stepper>([&test, k, seed] { return work(test, 2 + k, 2 * seed + k); });
    }
    while (on[0] || on[1]) {
        const std::uint32_t k = random() % 2;
        if (!on.at(k)) {
            continue;
        }
        on.at(k) = children.at(k)->step(1 + random() % 40);
        if (!on.at(k)) {
            ASSERT_EQ(children.at(k)->finish(), 0);
        } else if (random() % 150 == 0) {
            children.at(k)->kill();
            on.at(k) = false;
        } else {
            continue;
        }
        bury(test, 2 + k);
        ASSERT_EQ(take_census(test.pool()).held_by[2 + k], 0U);
        for (const shm::Finding& f : audit(test.pool(), 0).findings) {
            ASSERT_EQ(f.fault, shm::Fault::kMagazineHint);  // of the other, between two steps
        }
    }
    ASSERT_EQ(fault_at_rest(test, 0), "");
}

class Interleave : public SteppedWith<std::uint32_t> {};

TEST_P(Interleave, TwoClientsAndAReclaimLoseAndDoubleNothing) {
    for (std::uint32_t k = 0; k < 16 && !HasFatalFailure(); ++k) {
        const std::uint32_t seed = 1000 * GetParam() + k;
        run(seed, 3 + k % 8, 1 + k % 3);
    }
}

INSTANTIATE_TEST_SUITE_P(Seed, Interleave, testing::Range(1U, 4U));

}  // namespace
}  // namespace mempool::test
