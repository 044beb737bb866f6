// A client that is ended while it lives: it is refused everything, its caches go to others, its
// lanes and id to nobody.
#include "mempool/shm/recovery/end_client.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "mempool/shm/lane/waiting.hpp"
#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::get_all;
using test::TestPool;

constexpr ClientId kOutcast{1};

class EndClient : public testing::Test {
protected:
    EndedLanes end() {
        raise_epoch(pool_, kOutcast, 1);
        return shut_out(pool_, kOutcast);
    }
    GetResult get(Lane& lane) {
        Taken t;
        return lane.get(test_.limit(), t);
    }
    // Slots out of everybody's reach but the lane's: in magazines that name it.
    std::uint32_t magazines_of(LaneId l) {
        std::uint32_t magazines = 0;
        for (std::uint32_t m = 1; m < pool_.magazine_limit(); ++m) {
            const MagazineWord word{pool_.magazine(MagazineId{m}).word.load()};
            magazines += word.state() == MagazineState::kOwned && word.lane() == l ? 1U : 0U;
        }
        return magazines;
    }

    TestPool test_;
    const Pool& pool_ = test_.pool();
    Lane lane_ = test_.open(LaneId{1}, kOutcast);
    std::vector<Taken> held_ = get_all(lane_, test_.limit(), 5);
};

TEST_F(EndClient, WhatItHadCachedIsEverybodys) {
    const EndedLanes done = end();
    EXPECT_EQ(done.slots, 3U);  // of two magazines of 4, 5 are out
    EXPECT_EQ(done.magazines, 2U);
    EXPECT_EQ(done.busy, 0U);
    EXPECT_EQ(magazines_of(LaneId{1}), 0U);
    Lane other = test_.open(LaneId{2}, ClientId{2});
    EXPECT_EQ(get_all(other, test_.limit()).size(), 11U);
    EXPECT_EQ(other.record().steals.load(), 0U);
}

TEST_F(EndClient, EveryOperationIsRefusedAndNothingChanges) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    Taken theirs = get_all(other, test_.limit(), 1).at(0);
    end();
    const SlotWord before{pool_.word(held_[0].index).load()};
    Held common;
    std::uint32_t bits = 0;
    std::uint32_t got = 0;
    std::size_t asked = 0;
    EXPECT_FALSE(lane_.try_get(test_.limit(), common, bits));
    EXPECT_EQ(get(lane_), GetResult::kEnded);
    EXPECT_EQ(lane_.get_bulk(
                  test_.limit(), 3, [](Held) { FAIL(); }, got),
              GetResult::kEnded);
    EXPECT_EQ(got, 0U);
    EXPECT_FALSE(lane_.try_put_private(lane_.held(held_[0])));
    EXPECT_EQ(lane_.put_private(held_[0]), PutResult::kEnded);
    EXPECT_EQ(lane_.put(held_[0], test_.limit()), PutResult::kEnded);
    EXPECT_EQ(lane_.put_shown(held_[0]), PutResult::kEnded);
    EXPECT_EQ(lane_.show(held_[0]), PutResult::kEnded);
    EXPECT_EQ(lane_.put_bulk<Taken>([&](Taken&) { return ++asked == 0; }), 0U);
    EXPECT_EQ(asked, 0U);  // it took nothing off its caller's hands
    EXPECT_EQ(lane_.adopt(theirs, test_.limit()), PutResult::kEnded);
    EXPECT_EQ(lane_.renew(held_[0], test_.limit()), PutResult::kEnded);
    EXPECT_EQ(lane_.detach(held_[0], test_.limit()), PutResult::kEnded);
    lane_.share();
    EXPECT_FALSE(lane_.close());
    EXPECT_FALSE(lane_.open());
    EXPECT_EQ(SlotWord{pool_.word(held_[0].index).load()}, before);
    EXPECT_TRUE(SlotWord{pool_.word(theirs.index).load()}.is_held_by(ClientId{2}));
    EXPECT_EQ(lane_.record().exhausted.load() + lane_.record().refused.load(), 0U);
    EXPECT_EQ(magazines_of(LaneId{1}), 0U);
}

TEST_F(EndClient, IsRefusedByTheEpochAloneOnceAThiefWasThere) {
    // The daemon raised the epoch, and has not yet come to the lanes.
    Lane thief = test_.open(LaneId{2}, ClientId{2});
    get_all(thief, test_.limit());  // what is in the depot, then what the victim has cached
    raise_epoch(pool_, kOutcast, 1);
    EXPECT_EQ(get(lane_), GetResult::kEnded);
    EXPECT_EQ(lane_.put_private(held_[0]), PutResult::kEnded);  // the thief's bit is gone by now
    const EndedLanes done = shut_out(pool_, kOutcast);
    EXPECT_EQ(done.busy, 0U);
    EXPECT_EQ(magazines_of(LaneId{1}), 0U);
}

TEST_F(EndClient, StaysEndedWhateverIsWrittenOverItsRecord) {
    end();
    ASSERT_EQ(get(lane_), GetResult::kEnded);
    pool_.client(kOutcast).epoch.store(0);
    lane_.record().revoked.store(0);
    EXPECT_EQ(get(lane_), GetResult::kEnded);
    EXPECT_FALSE(lane_.open());
}

TEST_F(EndClient, TheBitOutlivesThievesAndTheSlowWay) {
    end();
    lane_.record().revoked.fetch_or(kRevoked);
    EXPECT_EQ(get(lane_), GetResult::kEnded);
    EXPECT_EQ(lane_.record().revoked.load(), kShutOut);
    EXPECT_FALSE(lane_.open());  // stores the bits afresh, and finds itself ended
    EXPECT_EQ(lane_.record().revoked.load(), kShutOut);
    EXPECT_FALSE(lane_.close());
    EXPECT_EQ(lane_.record().revoked.load(), kShutOut);
}

TEST_F(EndClient, ALaneThatIsBusyIsLeftAloneUntilItIsNot) {
    lane_.record().busy.store(1);
    EndedLanes done = end();
    EXPECT_EQ(done.busy, 1U);
    EXPECT_EQ(done.magazines, 0U);
    EXPECT_EQ(magazines_of(LaneId{1}), 2U);
    lane_.record().busy.store(0);
    done = shut_out(pool_, kOutcast);
    EXPECT_EQ(done.busy, 0U);
    EXPECT_EQ(done.slots, 3U);
}

TEST_F(EndClient, OtherClientsAreNotTouched) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    ASSERT_EQ(get(other), GetResult::kOk);
    end();
    EXPECT_EQ(other.record().revoked.load(), 0U);
    EXPECT_EQ(magazines_of(LaneId{2}), 2U);
    EXPECT_EQ(get(other), GetResult::kOk);
}

TEST_F(EndClient, AReclaimOfOthersLeavesItsLanesAndItsId) {
    end();
    test_.bury(ClientId{2});
    const LaneWord word{lane_.record().word.load()};
    EXPECT_EQ(word.state(), LaneState::kOwned);
    EXPECT_EQ(word.client(), kOutcast);
    EXPECT_EQ(lane_.record().revoked.load(), kShutOut);
    EXPECT_EQ(take_census(pool_).held_by[1], 5U);
    EXPECT_EQ(test::text_of(audit(pool_, 0).findings), "");
}

TEST_F(EndClient, OnceItIsDeadAllIsTakenBackAndTheLaneIsAsNew) {
    end();
    test_.bury(kOutcast);
    EXPECT_EQ(fault_at_rest(test_, 0), "");
    Lane next = test_.open(LaneId{1}, kOutcast);  // under the epoch that the record has now
    EXPECT_EQ(next.record().revoked.load(), 0U);
    EXPECT_EQ(get(next), GetResult::kOk);
    Held common;
    std::uint32_t bits = 0;
    EXPECT_TRUE(next.try_get(test_.limit(), common, bits));
}

TEST_F(EndClient, WhatItHoldsIsTakenByForceUnderAGenerationThatItDoesNotKnow) {
    ASSERT_EQ(lane_.show(held_[0]), PutResult::kOk);
    end();
    std::size_t erased = 0;
    EXPECT_EQ(take_from_ended(pool_, kOutcast, [&](SlotIndex) { ++erased; }), 5U);
    EXPECT_EQ(erased, 5U);
    EXPECT_EQ(take_census(pool_).held_by[1], 0U);
    EXPECT_EQ(LaneWord{lane_.record().word.load()}.client(), kOutcast);
    Lane other = test_.open(LaneId{2}, ClientId{2});
    const std::vector<Taken> all = get_all(other, test_.limit());
    EXPECT_EQ(all.size(), 16U);
    for (const Taken& t : held_) {
        EXPECT_EQ(other.put(t, test_.limit()), PutResult::kStale);
    }
}

TEST_F(EndClient, AWaiterOfItStopsWaiting) {
    end();
    Taken t;
    const auto look = [&](Turn turn) { return lane_.get(test_.limit(), t, turn); };
    EXPECT_EQ(wait(pool_, lane_.record(), MonotonicClock::time_point::max(), look),
              GetResult::kEnded);
    EXPECT_EQ(pool_.live().waiters.load(), 0U);
    EXPECT_EQ(lane_.record().waiting.load(), 0U);
}

TEST_F(EndClient, ALaneGivenUpMeanwhileIsNotShutOut) {
    ASSERT_TRUE(lane_.close());
    free_lane(pool_, LaneId{1});
    end();
    EXPECT_EQ(lane_.record().revoked.load(), 0U);
    EXPECT_TRUE(try_claim_lane(pool_, LaneId{1}, ClientId{2}));
}

// Clients work at full speed, and at some moment each is ended. A slot in two hands shows by its
// mark; in the end each slot is held by an ended client, or free and within reach.
TEST(EndClientRace, OfClientsAtWorkLosesAndDoublesNothing) {
    for (int round = 0; round < 100; ++round) {
        TestPool test({.slots = 12, .capacity = 2, .client_count = 5});
        const Pool& pool = test.pool();
        std::array<std::atomic<int>, 64> used{};
        const auto work = [&](std::uint32_t id) {
            Lane lane(pool, LaneId{id}, ClientId{id}, 0);
            if (!lane.open()) {
                return;
            }
            for (std::vector<Taken> mine;;) {
                Held held;
                Taken t;
                std::uint32_t bits = 0;
                GetResult result = GetResult::kOk;
                if (lane.try_get(test.limit(), held, bits)) {
                    t = held.taken();
                } else {
                    result = lane.get(test.limit(), t);
                }
                if (result == GetResult::kEnded) {
                    return;
                }
                if (result == GetResult::kOk) {
                    ASSERT_EQ(used.at(raw(t.index)).exchange(1), 0);
                    mine.push_back(t);
                }
                if (mine.size() < 3 && result == GetResult::kOk) {
                    continue;
                }
                while (!mine.empty()) {
                    t = mine.back();
                    used.at(raw(t.index)).store(0);
                    if (!lane.try_put_private(lane.held(t)) &&
                        lane.put_private(t) != PutResult::kOk) {
                        used.at(raw(t.index)).store(1);  // still its own
                        break;
                    }
                    mine.pop_back();
                }
            }
        };
        std::vector<std::thread> threads;
        for (std::uint32_t id = 1; id <= 3; ++id) {
            test.attach(ClientId{id});
            ASSERT_TRUE(try_claim_lane(pool, LaneId{id}, ClientId{id}));
            threads.emplace_back(work, id);
        }
        for (std::uint32_t id = 1; id <= 3; ++id) {
            std::this_thread::sleep_for(std::chrono::microseconds{100 * (round % 5)});
            raise_epoch(pool, ClientId{id}, 1);
            while (shut_out(pool, ClientId{id}).busy != 0) {
                std::this_thread::yield();
            }
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        const Census census = take_census(pool);
        Lane rest = test.open(LaneId{4}, ClientId{4});
        ASSERT_EQ(get_all(rest, test.limit()).size(), 12 - census.held);
        ASSERT_EQ(rest.record().steals.load(), 0U);
        for (std::uint32_t id = 1; id <= 4; ++id) {
            test.bury(ClientId{id});
        }
        ASSERT_EQ(test::fault_at_rest(test, 0), "");
    }
}

}  // namespace
}  // namespace mempool::shm
