// Stealing: slots idle in another's lane are within reach, those of a lane at work are not.
#include "mempool/shm/lane/steal.hpp"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::get_all;
using test::TestPool;

class Steal : public testing::Test {
protected:
    // All slots in the hands of `victim_`, then `cached` of them back in its magazines.
    void cache(std::size_t cached) {
        held_ = get_all(victim_, test_.limit());
        for (; cached > 0; --cached) {
            ASSERT_EQ(victim_.put_private(held_.back()), PutResult::kOk);
            held_.pop_back();
        }
    }
    GetResult get(Lane& lane) {
        Taken t;
        return lane.get(test_.limit(), t);
    }

    TestPool test_;
    Lane victim_ = test_.open(LaneId{1}, ClientId{1});
    Lane thief_ = test_.open(LaneId{2}, ClientId{2});
    std::vector<Taken> held_;
};

TEST_F(Steal, IdleLanesKeepNoSlotFromOthers) {
    cache(8);  // both magazines full
    EXPECT_EQ(get_all(thief_, test_.limit()).size(), 8U);
    EXPECT_EQ(thief_.record().steals.load(), 2U);
    EXPECT_EQ(get(thief_), GetResult::kExhausted);
}

TEST_F(Steal, EverySlotOfManyLanesIsFound) {
    std::vector<Lane> lanes;
    for (std::uint32_t l = 3; l < test_.pool().geometry().lane_count; ++l) {
        lanes.push_back(test_.open(LaneId{l}, ClientId{3}));
    }
    const std::vector<Taken> all = get_all(victim_, test_.limit());
    for (std::size_t k = 0; k < all.size(); ++k) {
        ASSERT_EQ(victim_.show(all[k]), PutResult::kOk);
        ASSERT_EQ(lanes.at(k % lanes.size()).put(all[k], test_.limit()), PutResult::kOk);
    }
    EXPECT_EQ(get_all(thief_, test_.limit()).size(), all.size());
}

TEST_F(Steal, LaneAtWorkKeepsItsMagazinesAndTheThiefIsTold) {
    cache(3);
    victim_.record().busy.store(1);  // stopped in the middle of an operation
    EXPECT_EQ(get(thief_), GetResult::kBusy);
    victim_.record().busy.store(0);
    EXPECT_EQ(get(thief_), GetResult::kOk);
}

TEST_F(Steal, VictimGoesOnWithWhatItHasLeft) {
    cache(6);
    ASSERT_EQ(get(thief_), GetResult::kOk);  // one of its two magazines
    EXPECT_NE(victim_.record().revoked.load() & kRevoked, 0U);
    Held held;
    std::uint32_t options = 0;
    EXPECT_FALSE(victim_.try_get(test_.limit(), held, options));  // the fast way is closed
    EXPECT_EQ(get(victim_), GetResult::kOk);
    EXPECT_EQ(victim_.record().revoked.load(), 0U);
    EXPECT_EQ(get_all(victim_, test_.limit()).size() + get_all(thief_, test_.limit()).size(), 4U);
    for (const Taken& t : held_) {
        EXPECT_EQ(victim_.put_private(t), PutResult::kOk);
    }
    EXPECT_EQ(test::text_of(audit(test_.pool(), 0).findings), "");
}

TEST_F(Steal, VictimThatLostEverythingReturnsWhatItHolds) {
    cache(8);
    ASSERT_EQ(get_all(thief_, test_.limit()).size(), 8U);
    for (const Taken& t : held_) {
        EXPECT_EQ(test::show_and_put(victim_, t), PutResult::kOk);
    }
    EXPECT_EQ(take_census(test_.pool()).held, 8U);
    victim_.close();
    EXPECT_EQ(take_census(test_.pool()).free, 8U);
    EXPECT_EQ(test::text_of(audit(test_.pool(), 0).findings), "");
}

TEST_F(Steal, RevokedLaneThatLostNothingIsUnchanged) {
    cache(4);
    victim_.record().revoked.fetch_or(kRevoked);  // a thief that died after S2
    EXPECT_EQ(get_all(victim_, test_.limit()).size(), 4U);
    EXPECT_EQ(victim_.record().revoked.load(), 0U);
}

TEST_F(Steal, WordReadBeforeTheVictimsNextOperationIsOutOfDate) {
    cache(4);
    const detail::Victim seen = detail::find_victim(thief_.depot(), victim_.id());  // S1
    ASSERT_NE(seen.magazine, kNoMagazine);
    victim_.record().revoked.fetch_or(kRevoked);                                    // S2
    ASSERT_EQ(get(victim_), GetResult::kOk);                                        // V1 .. V3
    EXPECT_FALSE(thief_.depot().try_claim(seen.magazine, seen.word, thief_.id()));  // S5
}

TEST_F(Steal, LaneThatClosesWhileAThiefLooksLosesOnlyWhatWasTaken) {
    cache(8);
    ASSERT_EQ(get(thief_), GetResult::kOk);
    victim_.close();
    free_lane(test_.pool(), victim_.id());
    EXPECT_EQ(take_census(test_.pool()).free, 4U);
    EXPECT_EQ(get_all(thief_, test_.limit()).size(), 7U);
}

TEST_F(Steal, ForeignBytesInALaneRecordAreSkipped) {
    cache(8);
    for (const std::uint32_t foreign : {~0U, test_.pool().geometry().magazine_count, 1U}) {
        victim_.record().loaded.store(foreign);
        victim_.record().previous.store(foreign);
        const GetResult result = get(thief_);
        EXPECT_TRUE(result == GetResult::kExhausted || result == GetResult::kBusy);
    }
}

TEST_F(Steal, LaneMapNamesLanesInUse) {
    std::vector<std::uint32_t> seen;
    visit_lanes(test_.pool(), LaneId{1}, [&](LaneId l) {
        seen.push_back(raw(l));
        return true;
    });
    EXPECT_EQ(seen, (std::vector<std::uint32_t>{2, 1}));
    thief_.close();
    free_lane(test_.pool(), LaneId{2});
    seen.clear();
    visit_lanes(test_.pool(), LaneId{0}, [&](LaneId l) {
        seen.push_back(raw(l));
        return true;
    });
    EXPECT_EQ(seen, (std::vector<std::uint32_t>{1}));
}

TEST_F(Steal, LaneThatFoundNoMagazinesLooksAgainLater) {
    cache(8);
    ASSERT_EQ(get_all(thief_, test_.limit()).size(), 8U);
    // All others are hidden when the victim needs two.
    const std::uint32_t end = test_.pool().magazine_limit();
    std::vector<std::uint64_t> words(end);
    for (std::uint32_t m = 1; m < end; ++m) {
        words[m] = test_.pool().magazine(MagazineId{m}).word.exchange(0);
    }
    EXPECT_EQ(get(victim_), GetResult::kExhausted);
    EXPECT_EQ(victim_.put_private(held_[0]), PutResult::kNoRoom);
    for (std::uint32_t m = 1; m < end; ++m) {
        test_.pool().magazine(MagazineId{m}).word.store(words[m]);
    }
    rehint(test_.pool());
    EXPECT_EQ(victim_.put_private(held_[0]), PutResult::kOk);
    EXPECT_EQ(get(victim_), GetResult::kOk);
}

// Three threads on few slots: one is never done with an operation for long, another has to steal. A
// slot in two hands shows by its mark.
void race(const test::PoolOptions& options) {
    constexpr int kRounds = 200'000;
    TestPool test(options);
    std::array<std::atomic<int>, 64> used{};
    std::atomic<std::uint64_t> gets{0};
    const auto work = [&](std::uint32_t id) {
        Lane lane(test.pool(), LaneId{id}, ClientId{id}, 0);
        ASSERT_TRUE(lane.open());
        for (int k = 0; k < kRounds; ++k) {
            Held held;
            Taken t;
            std::uint32_t bits = 0;
            if (lane.try_get(test.limit(), held, bits)) {
                t = held.taken();
            } else if (lane.get(test.limit(), t) != GetResult::kOk) {
                continue;
            }
            ASSERT_EQ(used.at(raw(t.index)).exchange(1), 0);
            gets.fetch_add(1);
            ASSERT_EQ(used.at(raw(t.index)).exchange(0), 1);
            ASSERT_TRUE(lane.try_put_private(lane.held(t)) ||
                        lane.put_private(t) == PutResult::kOk);
        }
        lane.close();
    };
    std::vector<std::thread> threads;
    for (std::uint32_t id = 1; id <= 3; ++id) {
        test.attach(ClientId{id});
        ASSERT_TRUE(try_claim_lane(test.pool(), LaneId{id}, ClientId{id}));
        threads.emplace_back(work, id);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_GT(gets.load(), static_cast<std::uint64_t>(kRounds));
    for (std::uint32_t id = 1; id <= 3; ++id) {
        free_lane(test.pool(), LaneId{id});
        test.pool().client(ClientId{id}).state.store(ClientState::kFree);
    }
    EXPECT_EQ(test::fault_at_rest(test, 0), "");
}

TEST(StealRace, VictimAndThiefNeverHoldOneSlot) { race({.slots = 4, .capacity = 2}); }

// One less than there are threads: so one always has to steal.
TEST(StealRace, OfTwoSlotsAmongThreeEachHasOneHolder) { race({.slots = 2, .capacity = 1}); }

TEST(StealRace, OfTwoSlotsInOneMagazineEachHasOneHolder) { race({.slots = 2, .capacity = 2}); }

// From here on membarrier(2) fails with EPERM in this process.
bool refuse_membarrier() {
    std::array filter = {sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                         sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
                         sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                         sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{filter.size(), filter.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// What a process does in which membarrier is refused; 0, or the number of the step that failed.
int without_membarrier(TestPool& test) {
    if (!refuse_membarrier()) {
        return 100;
    }
    Lane victim(test.pool(), LaneId{1}, ClientId{1}, 0);
    Lane thief(test.pool(), LaneId{2}, ClientId{2}, 0);
    if (!victim.open() || !thief.open()) {
        return 1;
    }
    if (victim.record().revoked.load() != kFenced) {
        return 2;  // it fences by itself
    }
    std::vector<Taken> all = get_all(victim, test.limit());
    for (std::size_t k = 0; k < 8; ++k) {
        if (victim.put_private(all.back()) != PutResult::kOk) {
            return 3;
        }
        all.pop_back();
    }
    if (get_all(thief, test.limit()).size() != 8) {
        return 4;  // two lanes that fence can steal from each other
    }
    for (const Taken& t : all) {
        if (victim.put_private(t) != PutResult::kOk) {
            return 5;
        }
    }
    // A lane of a process that relies on the barrier is out of such a thief's reach.
    victim.record().revoked.fetch_and(~kFenced);
    Taken t;
    return thief.get(test.limit(), t) == GetResult::kExhausted ? 0 : 6;
}

TEST(StealWithoutMembarrier, LanesThatFenceThemselvesCanBeStolenFromAndOthersAreLeftAlone) {
    TestPool test;
    for (std::uint32_t id = 1; id <= 2; ++id) {
        test.attach(ClientId{id});
        ASSERT_TRUE(try_claim_lane(test.pool(), LaneId{id}, ClientId{id}));
    }
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        ::_exit(without_membarrier(test));
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 100) {
        GTEST_SKIP() << "seccomp filters are not permitted here";
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace mempool::shm
