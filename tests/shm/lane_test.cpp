// A lane: get, put, adopt, detach, and every handle and magazine that is not what it should be.
#include "mempool/shm/lane/lane.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::get_all;
using test::PoolOptions;
using test::TestPool;

class LaneTest : public testing::Test {
protected:
    explicit LaneTest(const PoolOptions& options = {}) : test_(options) {}

    Taken get() {
        Taken t;
        EXPECT_EQ(lane_.get(test_.limit(), t), GetResult::kOk);
        return t;
    }
    Taken get_shown() {
        const Taken t = get();
        EXPECT_EQ(lane_.show(t), PutResult::kOk);
        return t;
    }
    // By the handle.
    PutResult put(Taken t) { return lane_.put(t, test_.limit()); }
    PutResult put_held(Taken t) { return test::show_and_put(lane_, t); }
    SlotWord word(Taken t) { return SlotWord{test_.pool().word(t.index).load()}; }
    MagazineHead& loaded() { return test_.pool().magazine(lane_.loaded()); }

    TestPool test_;
    Lane lane_ = test_.open(LaneId{1}, ClientId{1});
};

TEST_F(LaneTest, GetsEverySlotOnceAndTakesEachBack) {
    const std::vector<Taken> all = get_all(lane_, test_.limit());
    ASSERT_EQ(all.size(), 16U);
    std::vector<bool> seen(16);
    for (const Taken& t : all) {
        EXPECT_FALSE(seen.at(raw(t.index)));
        seen.at(raw(t.index)) = true;
        EXPECT_TRUE(word(t).is_held_by(ClientId{1}));
        EXPECT_EQ(word(t).generation(), t.generation);
    }
    Taken none;
    EXPECT_EQ(lane_.get(test_.limit(), none), GetResult::kExhausted);
    for (const Taken& t : all) {
        EXPECT_EQ(put_held(t), PutResult::kOk);
    }
    lane_.close();
    EXPECT_EQ(test::fault_at_rest(test_, 0, 2), "");
}

TEST_F(LaneTest, FreshPoolIsWalkedInTheOrderOfItsAddresses) {
    for (std::uint32_t k = 0; k < 16; ++k) {
        EXPECT_EQ(get().index, SlotIndex{k});
    }
}

TEST_F(LaneTest, SlotJustReturnedComesBackFirst) {
    get();
    const Taken t = get_shown();
    ASSERT_EQ(put(t), PutResult::kOk);
    const Taken again = get();
    EXPECT_EQ(again.index, t.index);
}

TEST_F(LaneTest, GenerationGrowsAtEveryGet) {  // I2
    const Taken first = get_shown();
    ASSERT_EQ(put(first), PutResult::kOk);
    const Taken second = get_shown();
    ASSERT_EQ(second.index, first.index);
    EXPECT_EQ(raw(second.generation), raw(first.generation) + 1);
    EXPECT_EQ(put(first), PutResult::kStale);
    EXPECT_TRUE(word(second).is_held_by(ClientId{1}));
    EXPECT_EQ(put(second), PutResult::kOk);
}

TEST_F(LaneTest, GenerationWrapsToZero) {
    test_.pool()
        .word(SlotIndex{0})
        .store(SlotWord::free(Generation{~0U},
                              SlotWord{test_.pool().word(SlotIndex{0}).load()}.magazine())
                   .bits);
    const Taken t = get_shown();
    EXPECT_EQ(t.generation, Generation{0});
    EXPECT_EQ(put(t), PutResult::kOk);
}

TEST_F(LaneTest, SecondPutIsRefusedAndChangesNothing) {
    const Taken t = get_shown();
    ASSERT_EQ(put(t), PutResult::kOk);
    const SlotWord before = word(t);
    EXPECT_EQ(put(t), PutResult::kStale);
    EXPECT_EQ(word(t), before);
    EXPECT_EQ(lane_.record().refused.load(), 1U);
    EXPECT_EQ(get_all(lane_, test_.limit()).size(), 16U);
}

TEST_F(LaneTest, PutFromAnotherLaneIsAcceptedOnceEvenIfBothTry) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    const Taken t = get_shown();
    EXPECT_EQ(other.put(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(put(t), PutResult::kStale);
    Taken again;
    ASSERT_EQ(other.get(test_.limit(), again), GetResult::kOk);
    EXPECT_EQ(again.index, t.index);
}

TEST_F(LaneTest, IndexOutsideThePoolIsRefused) {
    for (const std::uint32_t index : {16U, 17U, test_.pool().geometry().index_capacity, ~0U}) {
        Taken t{SlotIndex{index}, Generation{1}};
        EXPECT_EQ(put(t), PutResult::kOutOfRange) << index;
        EXPECT_EQ(lane_.adopt(t, test_.limit()), PutResult::kOutOfRange) << index;
        EXPECT_EQ(lane_.detach(t, test_.limit()), PutResult::kOutOfRange) << index;
    }
    EXPECT_EQ(lane_.record().puts.load(), 0U);
}

TEST_F(LaneTest, FreeSlotCannotBePutOrAdopted) {
    Taken t{SlotIndex{9}, Generation{test::kFirstGeneration}};
    EXPECT_EQ(put(t), PutResult::kStale);
    EXPECT_EQ(lane_.adopt(t, test_.limit()), PutResult::kStale);
    EXPECT_EQ(lane_.detach(t, test_.limit()), PutResult::kStale);
}

TEST_F(LaneTest, AdoptMovesASlotBetweenClients) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    Taken t = get_shown();
    EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kOk);
    EXPECT_TRUE(word(t).is_held_by(ClientId{2}));
    EXPECT_EQ(lane_.detach(t, test_.limit()), PutResult::kStale);  // no longer the holder
    EXPECT_EQ(word(t).generation(), t.generation);
    EXPECT_EQ(other.put_private(t), PutResult::kOk);
    EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kStale);
}

TEST_F(LaneTest, AdoptMakesTheHandleThatLedToItStale) {  // I2
    Lane other = test_.open(LaneId{2}, ClientId{2});
    const Taken sent = get_shown();
    Taken received = sent;
    ASSERT_EQ(other.adopt(received, test_.limit()), PutResult::kOk);
    EXPECT_EQ(received.generation, next(sent.generation));
    Taken again = sent;  // a second delivery
    EXPECT_EQ(lane_.adopt(again, test_.limit()), PutResult::kStale);
    EXPECT_EQ(again.generation, sent.generation);
    EXPECT_EQ(put(sent), PutResult::kStale);  // a late return by the sender
    EXPECT_EQ(lane_.put_shown(sent), PutResult::kStale);
    EXPECT_EQ(lane_.put_private(sent), PutResult::kStale);
    EXPECT_EQ(put(received), PutResult::kStale);  // a handle that nobody was given yet
    EXPECT_EQ(other.put_private(received), PutResult::kOk);
}

TEST_F(LaneTest, RefusedPutLeavesTheMagazineAsItWas) {
    const Taken t = get();
    const std::uint32_t before = loaded().count.load();
    EXPECT_EQ(put(t), PutResult::kStale);  // nobody was given its handle
    EXPECT_EQ(loaded().count.load(), before);
}

TEST_F(LaneTest, DetachedSlotIsNobodysUntilAdopted) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    Taken t = get();
    EXPECT_EQ(lane_.detach(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(word(t).state(), SlotState::kDetached);
    EXPECT_EQ(word(t).client(), ClientId{1});  // who detached it
    EXPECT_EQ(lane_.detach(t, test_.limit()), PutResult::kStale);
    EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kOk);
    EXPECT_TRUE(word(t).is_held_by(ClientId{2}));
    EXPECT_EQ(other.detach(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(put(t), PutResult::kOk);  // a detached slot may be returned by anybody
}

TEST_F(LaneTest, HandleThatNobodyWasGivenIsRefused) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    Taken t = get();
    const SlotWord before = word(t);
    for (Lane* lane : {&lane_, &other}) {
        EXPECT_EQ(lane->put(t, test_.limit()), PutResult::kStale);
        EXPECT_EQ(lane->adopt(t, test_.limit()), PutResult::kStale);
        EXPECT_EQ(lane->adopt(t, test_.limit()), PutResult::kStale);
        EXPECT_EQ(lane->put_shown(t), PutResult::kStale);
        bool more = true;
        EXPECT_EQ(lane->put_bulk<Taken>([&](Taken& next) {
            next = t;
            return std::exchange(more, false);
        }),
                  0U);
        EXPECT_EQ(lane->record().refused.load(), 5U);
    }
    EXPECT_EQ(word(t), before);
    EXPECT_EQ(lane_.put_private(t), PutResult::kOk);
}

TEST_F(LaneTest, ShownSlotIsTakenByItsHandleOnceByAnybody) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    Taken t = get();
    EXPECT_EQ(lane_.show(t), PutResult::kOk);
    EXPECT_EQ(word(t), SlotWord::shown(t.generation, ClientId{1}));
    EXPECT_EQ(lane_.show(t), PutResult::kOk);  // again: nothing changes
    EXPECT_EQ(word(t), SlotWord::shown(t.generation, ClientId{1}));
    EXPECT_EQ(lane_.put_private(t), PutResult::kStale);
    EXPECT_EQ(other.show(t), PutResult::kStale);  // it is another client's
    EXPECT_EQ(other.put_shown(t), PutResult::kStale);
    EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(word(t), SlotWord::held(t.generation, ClientId{2}));
    EXPECT_EQ(other.put_private(t), PutResult::kOk);
    EXPECT_EQ(get_all(lane_, test_.limit()).size(), 16U);
}

TEST_F(LaneTest, ShowFindsASlotThatWasTakenAway) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    const Taken t = get_shown();
    Taken adopted = t;
    ASSERT_EQ(other.adopt(adopted, test_.limit()), PutResult::kOk);
    EXPECT_EQ(lane_.show(t), PutResult::kStale);
    ASSERT_EQ(other.put_private(adopted), PutResult::kOk);
    EXPECT_EQ(lane_.show(t), PutResult::kStale);
    EXPECT_EQ(lane_.record().refused.load(), 2U);
}

TEST_F(LaneTest, ShownSlotIsItsHoldersToDetachAndToRenew) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    Taken t = get_shown();
    EXPECT_EQ(other.detach(t, test_.limit()), PutResult::kStale);
    EXPECT_EQ(other.renew(t, test_.limit()), PutResult::kStale);
    const Taken sent = t;
    EXPECT_EQ(lane_.renew(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(word(t), SlotWord::held(next(sent.generation), ClientId{1}));
    EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kStale);
    EXPECT_EQ(lane_.show(t), PutResult::kOk);
    EXPECT_EQ(lane_.detach(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(word(t), SlotWord::detached(t.generation, ClientId{1}));
    EXPECT_EQ(other.adopt(t, test_.limit()), PutResult::kOk);
}

TEST_F(LaneTest, PrivatePutTakesBackWhatThisClientGotAndNothingElse) {
    Lane other = test_.open(LaneId{2}, ClientId{2});
    const Taken a = get();
    EXPECT_EQ(other.put_private(a), PutResult::kStale);  // another client's
    EXPECT_EQ(lane_.put_private(a), PutResult::kOk);
    EXPECT_EQ(lane_.put_private(a), PutResult::kStale);
    Taken b = get();
    ASSERT_EQ(b.index, a.index);
    EXPECT_EQ(lane_.put_private(a), PutResult::kStale);  // an older get of the same slot
    ASSERT_EQ(lane_.detach(b, test_.limit()), PutResult::kOk);
    EXPECT_EQ(lane_.put_private(b), PutResult::kStale);
    const Taken sent = b;
    ASSERT_EQ(other.adopt(b, test_.limit()), PutResult::kOk);
    EXPECT_EQ(lane_.put_private(sent), PutResult::kStale);
    EXPECT_EQ(lane_.put_private(b), PutResult::kStale);
    EXPECT_EQ(other.put_private(b), PutResult::kOk);
}

TEST_F(LaneTest, CommonCasesDoAsTheWholeOnesOrChangeNothing) {
    Held t;
    std::uint32_t options = 0;
    test_.pool().live().options.store(kEraseOnPut);
    EXPECT_FALSE(lane_.try_get(test_.limit(), t, options));  // nothing loaded yet
    ASSERT_EQ(lane_.put_private(get()), PutResult::kOk);
    EXPECT_EQ(options, 0U);
    EXPECT_TRUE(lane_.try_get(test_.limit(), t, options));
    EXPECT_EQ(options, kEraseOnPut);
    EXPECT_EQ(t.index, SlotIndex{0});
    EXPECT_EQ(word(t.taken()), t.word);
    EXPECT_TRUE(t.word.is_held_by(ClientId{1}));
    EXPECT_FALSE(lane_.try_get(1, t, options));  // the next is not mapped
    EXPECT_EQ(loaded().count.load(), 3U);
    EXPECT_TRUE(lane_.try_put_private(t));
    EXPECT_FALSE(lane_.is_waited_for());
    EXPECT_FALSE(lane_.try_put_private(t));
    EXPECT_EQ(lane_.record().gets.load(), 2U);
    EXPECT_EQ(lane_.record().puts.load(), 2U);
    EXPECT_EQ(lane_.record().refused.load(), 0U);
    const std::vector<Taken> all = get_all(lane_, test_.limit());
    ASSERT_EQ(all.size(), 16U);
    EXPECT_FALSE(lane_.try_get(test_.limit(), t, options));  // none left
    for (std::size_t k = 0; k < 4; ++k) {
        EXPECT_TRUE(lane_.try_put_private(lane_.held(all[k])));
    }
    EXPECT_FALSE(lane_.try_put_private(lane_.held(all[4])));  // the magazine is full
    EXPECT_EQ(lane_.put_private(all[4]), PutResult::kOk);
}

// I3: only the magazine's owner frees a slot into it. Each slot is put by two lanes at once, or put
// by one and adopted by the other.
TEST(LaneRace, OfTwoThatTakeASlotOneWins) {
    for (const bool adopt : {false, true}) {
        TestPool test({.slots = 64, .capacity = 4});
        for (int round = 0; round < 60; ++round) {
            Lane one = test.open(LaneId{1}, ClientId{1});
            Lane two = test.open(LaneId{2}, ClientId{2});
            const std::vector<Taken> all = get_all(one, test.limit());
            ASSERT_EQ(all.size(), 64U);
            for (const Taken& t : all) {
                ASSERT_EQ(one.show(t), PutResult::kOk);
            }
            std::vector<int> wins(all.size());
            std::atomic<std::size_t> at{0};
            std::thread rival([&] {
                for (std::size_t k = 0; k < all.size(); ++k) {
                    while (at.load(std::memory_order_acquire) < k) {
                    }
                    Taken t = all[k];
                    const PutResult result =
                        adopt ? two.adopt(t, test.limit()) : two.put(t, test.limit());
                    wins[k] += result == PutResult::kOk ? 1 : 0;
                }
            });
            std::vector<int> own_wins(all.size());
            for (std::size_t k = 0; k < all.size(); ++k) {
                at.store(k, std::memory_order_release);
                const PutResult result =
                    round % 2 == 0 ? one.put(all[k], test.limit()) : one.put_shown(all[k]);
                own_wins[k] = result == PutResult::kOk ? 1 : 0;
            }
            at.store(all.size(), std::memory_order_release);
            rival.join();
            for (std::size_t k = 0; k < all.size(); ++k) {
                const SlotWord word{test.pool().word(all[k].index).load()};
                ASSERT_EQ(wins[k] + own_wins[k], 1) << k << ' ' << adopt;
                ASSERT_EQ(word.state(),
                          adopt && wins[k] == 1 ? SlotState::kHeld : SlotState::kFree);
                if (word.state() == SlotState::kHeld) {
                    ASSERT_EQ(two.put_private({all[k].index, word.generation()}), PutResult::kOk);
                }
            }
            one.close();
            two.close();
            free_lane(test.pool(), LaneId{1});
            free_lane(test.pool(), LaneId{2});
        }
        EXPECT_EQ(test::fault_at_rest(test, 0, 3), "");
    }
}

TEST_F(LaneTest, CountersTellWhatHappened) {
    const std::vector<Taken> all = get_all(lane_, test_.limit());
    for (const Taken& t : all) {
        ASSERT_EQ(put_held(t), PutResult::kOk);
    }
    EXPECT_EQ(lane_.record().gets.load(), 16U);
    EXPECT_EQ(lane_.record().puts.load(), 16U);
    EXPECT_EQ(lane_.record().exhausted.load(), 1U);
    EXPECT_EQ(lane_.record().refused.load(), 0U);
}

TEST_F(LaneTest, StampsTheTimeOfGetAdoptAndDetach) {
    test_.pool().live().now.store(5000);
    const Taken t = get();
    EXPECT_EQ(test_.pool().record(t.index).time.load(), 5000U);
    test_.pool().live().now.store(5001);
    ASSERT_EQ(lane_.detach(t, test_.limit()), PutResult::kOk);
    EXPECT_EQ(test_.pool().record(t.index).time.load(), 5001U);
}

TEST_F(LaneTest, ForeignCountInTheMagazineIsSurvived) {
    get();
    loaded().count.store(~0U);  // reads as "all there are"
    EXPECT_EQ(get_all(lane_, test_.limit()).size(), 15U);
    loaded().count.store(0x8000'0000U);
    const Taken held{SlotIndex{0}, Generation{test::kFirstGeneration + 1}};
    EXPECT_EQ(put_held(held), PutResult::kOk);
}

TEST_F(LaneTest, ForeignItemsAreDroppedAndNothingElseIsHandedOut) {
    get();  // slot 0 is out; 1, 2, 3 are loaded
    std::atomic<std::uint32_t>* items = Pool::items(loaded());
    items[0].store(~0U);  // no such slot
    items[1].store(0);    // held
    items[2].store(9);    // free in another magazine
    const std::vector<Taken> rest = get_all(lane_, test_.limit());
    EXPECT_EQ(rest.size(), 12U);
    for (const Taken& t : rest) {
        EXPECT_GE(raw(t.index), 4U);
    }
}

TEST_F(LaneTest, ItemListedTwiceIsHandedOutOnce) {
    Pool::items(loaded())[0].store(0);
    get();  // slot 0, from the top
    const std::vector<Taken> rest = get_all(lane_, test_.limit());
    for (const Taken& t : rest) {
        EXPECT_NE(t.index, SlotIndex{0});
    }
}

TEST_F(LaneTest, MagazinesOverwrittenBySomebodyEndInNoRoomAndNotInAHang) {
    const std::vector<Taken> all = get_all(lane_, test_.limit());
    for (std::uint32_t m = 1; m < test_.pool().magazine_limit(); ++m) {
        test_.pool().magazine(MagazineId{m}).count.store(test_.pool().magazine_capacity());
        DaemonDepot(test_.pool()).hint(MagazineId{m}, 0);
    }
    Ring empty(test_.pool(), empty_ring(0));
    for (Hint h = empty.peek(); h.magazine != kNoMagazine; h = empty.peek()) {
        empty.remove(h);
    }
    EXPECT_EQ(lane_.put_private(all[0]), PutResult::kNoRoom);
    EXPECT_TRUE(word(all[0]).is_held_by(ClientId{1}));
}

TEST_F(LaneTest, CloseGivesBothMagazinesBackAndCanBeRepeated) {
    get();
    lane_.close();
    lane_.close();
    free_lane(test_.pool(), LaneId{1});
    EXPECT_EQ(take_census(test_.pool()).cached, 0U);
    EXPECT_EQ(take_census(test_.pool()).held, 1U);
    EXPECT_TRUE(try_claim_lane(test_.pool(), LaneId{1}, ClientId{2}));
    EXPECT_FALSE(try_claim_lane(test_.pool(), LaneId{1}, ClientId{3}));
}

TEST_F(LaneTest, EveryLaneOpensAndEverySlotIsStillReturned) {
    // All lanes at work at once, the magazines just suffice (see Depot::claim_room).
    const std::vector<Taken> all = get_all(lane_, test_.limit());
    std::vector<Lane> lanes;
    for (std::uint32_t l = 2; l < test_.pool().geometry().lane_count; ++l) {
        lanes.push_back(test_.open(LaneId{l}, ClientId{2}));
    }
    for (std::size_t k = 0; k < all.size(); ++k) {
        EXPECT_EQ(lane_.show(all[k]), PutResult::kOk);
        EXPECT_EQ(lanes[k % lanes.size()].put(all[k], test_.limit()), PutResult::kOk);
    }
    for (Lane& lane : lanes) {
        lane.close();
        free_lane(test_.pool(), lane.id());
    }
    lane_.close();
    EXPECT_EQ(test::fault_at_rest(test_, 0, 3), "");
}

TEST_F(LaneTest, PutSharesItsMagazineWithThoseWhoWait) {
    const std::vector<Taken> all = get_all(lane_, test_.limit());
    Lane waiter = test_.open(LaneId{2}, ClientId{2});
    Taken t;
    ASSERT_EQ(waiter.get(test_.limit(), t), GetResult::kExhausted);
    test_.pool().live().waiters.store(1);
    ASSERT_EQ(put_held(all[0]), PutResult::kOk);
    EXPECT_EQ(waiter.get(test_.limit(), t), GetResult::kOk);
    EXPECT_EQ(t.index, all[0].index);
    EXPECT_EQ(waiter.record().steals.load(), 0U);
    test_.pool().live().waiters.store(0);
    ASSERT_EQ(put_held(all[1]), PutResult::kOk);
    EXPECT_EQ(waiter.get(test_.limit(), t), GetResult::kOk);  // it lay in the other's lane
    EXPECT_EQ(waiter.record().steals.load(), 1U);
}

class GrownPool : public LaneTest {
protected:
    GrownPool() : LaneTest({.slots = 16, .max_slots = 200}) {}
};

TEST_F(GrownPool, SlotOfASegmentNotYetMappedIsReportedAndNotLost) {
    const std::uint32_t mapped = test_.limit();
    const std::vector<Taken> first = get_all(lane_, mapped);
    ASSERT_EQ(first.size(), 16U);
    test_.grow(5);
    Taken t;
    EXPECT_EQ(lane_.get(mapped, t), GetResult::kUnmapped);
    EXPECT_EQ(lane_.get(mapped, t), GetResult::kUnmapped);
    EXPECT_EQ(get_all(lane_, test_.limit()).size(), 5U);
    Taken beyond{SlotIndex{test_.limit() - 1}, Generation{test::kFirstGeneration + 1}};
    EXPECT_EQ(lane_.show(beyond), PutResult::kOk);
    EXPECT_EQ(lane_.put(beyond, mapped), PutResult::kUnmapped);
    EXPECT_EQ(lane_.adopt(beyond, mapped), PutResult::kUnmapped);
    EXPECT_EQ(lane_.put(beyond, test_.limit()), PutResult::kOk);
}

}  // namespace
}  // namespace mempool::shm
