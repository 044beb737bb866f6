// A steal whose victim dies in the middle of a get or a put: its reclaim, the rest of the steal and
// what the thief puts afterwards leave every slot accounted for once.
//
// What the thief puts goes on top of what it stole, so a slot that the victim had there, beyond the
// count, would be written over: a theft from a lane that died in mid-operation loses it.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

using shm::GetResult;
using shm::PutResult;
using shm::Taken;

/// What the victim dies in.
struct LastAct {
    const char* name;
    int (*run)(World&);
};

std::ostream& operator<<(std::ostream& out, const LastAct& act) { return out << act.name; }

int get_of_victim(World& w) {
    Taken t;
    return w.victim->get(w.test.limit(), t) == GetResult::kOk ? 0 : kNothingLeft;
}
int put_of_victim(World& w) {
    return w.victim->put_private(w.victim_holds.back()) == PutResult::kOk ? 0 : 2;
}
int show_and_put_of_victim(World& w) {
    return shm::test::show_and_put(*w.victim, w.victim_holds.back()) == PutResult::kOk ? 0 : 2;
}
constexpr std::array kLastActs = {LastAct{"Get", get_of_victim},
                                  LastAct{"PutPrivate", put_of_victim},
                                  LastAct{"ShowAndPut", show_and_put_of_victim}};

constexpr std::uint64_t kThiefHolds = 8;
constexpr std::uint64_t kThiefPuts = 2;

// One slot is free, in the victim's magazine, which has room for one more.
void prepare_theft(World& w) {
    w.open_both();
    w.victim_holds = shm::test::get_all(*w.victim, w.test.limit(), 4);
    w.other_holds = shm::test::get_all(*w.other, w.test.limit(), kThiefHolds);
    ASSERT_EQ(w.victim->put_private(w.victim_holds.back()), PutResult::kOk);
    w.victim_holds.pop_back();
}

// Two results are possible: it got a slot, or there was none within its reach.
int steal_and_put(World& w) {
    Taken t;
    const bool got = w.other->get(w.test.limit(), t) == GetResult::kOk;
    for (std::uint64_t k = 0; k < kThiefPuts; ++k) {
        if (w.other->put_private(w.other_holds.at(k)) != PutResult::kOk) {
            return 2;
        }
    }
    return got ? 0 : kNothingLeft;
}

// Reclaims the victim while the thief may stand in mid-operation: empty, or what is wrong.
std::string bury_victim(World& w) {
    w.test.bury(kVictim);
    if (take_census(w.pool()).held_by[raw(kVictim)] != 0) {
        return "the dead still holds something";
    }
    for (const shm::Finding& f : audit(w.pool(), 0).findings) {
        if (f.fault != shm::Fault::kMagazineHint) {  // of the thief, between G1 and P1
            return "audit: " + shm::test::text_of({f});
        }
    }
    return "";
}

// The thief is done: it holds what it should, and after its own end all is there once.
std::string fault_after_theft(World& w, int result) {
    const std::uint64_t got = result == 0 ? 1 : 0;
    if (result > kNothingLeft ||
        take_census(w.pool()).held_by[raw(kOther)] != kThiefHolds + got - kThiefPuts) {
        return "the thief holds more or less than it got";
    }
    w.test.bury(kOther);
    return fault_at_rest(w.test, 0, raw(kChecker));
}

class VictimDies : public SteppedWith<LastAct> {
protected:
    // The victim is killed as soon as a slot's word says FREE, or HELD: before the count follows.
    static void die(World& w) {
        prepare_theft(w);
        const std::uint64_t held = take_census(w.pool()).held;
        Stepper victim([&] { return GetParam().run(w); });
        while (take_census(w.pool()).held == held) {
            ASSERT_TRUE(victim.step());
        }
        victim.kill();
        w.pool().client(kVictim).state.store(shm::ClientState::kDead);
    }

    // How long the act takes; `revoked`: with a thief's bit in its lane, by the slow way.
    static std::uint64_t instructions(bool revoked) {
        World w(kSmall);
        prepare_theft(w);
        if (revoked) {
            w.victim->record().revoked.fetch_or(shm::kRevoked);
        }
        Stepper victim([&] { return GetParam().run(w); });
        while (victim.step()) {
        }
        return victim.steps();
    }

    // Stops the thief and kills the victim, each after some of its instructions, in this order or
    // the other. Each stop is stepped to from the beginning, so only some are tried.
    static void kill_at_moments(bool thief_first) {
        constexpr std::uint64_t kStride = 23;
        constexpr std::uint64_t kPrime = 7;  // the victim's moments come in another order
        const std::uint64_t moments = instructions(thief_first) + 1;
        bool over = false;
        std::uint64_t thefts = 0;
        for (std::uint64_t stop = 0; !over; ++stop) {
            const std::uint64_t moment = kPrime * stop % moments;
            SCOPED_TRACE("thief stopped after " + std::to_string(kStride * stop) +
                         ", victim killed after " + std::to_string(moment) + " instructions");
            World w(kSmall);
            prepare_theft(w);
            Stepper victim([&] { return GetParam().run(w); });
            Stepper thief([&] { return steal_and_put(w); });
            if (!thief_first) {
                victim.step(moment);
            }
            over = !thief.step(kStride * stop);
            if (thief_first) {
                victim.step(moment);
            }
            victim.kill();
            const bool reclaim_first = stop % 2 == 0;
            ASSERT_EQ(reclaim_first ? bury_victim(w) : "", "");
            const int result = thief.finish();
            ASSERT_EQ(bury_victim(w), "");
            ASSERT_EQ(fault_after_theft(w, result), "");
            thefts += result == 0 ? 1U : 0U;
        }
        EXPECT_GT(thefts, 0U);
    }

    static int reclaim_victim(World& w) {
        reclaim(
            w.pool(), [](shm::ClientId c) { return c == kVictim; }, nullptr);
        return 0;
    }

    // After how many instructions the reclaim has changed the memory, each time.
    static std::vector<std::uint64_t> changes_in_reclaim() {
        World w(kSmall);
        die(w);
        const std::byte* now = w.pool().base();
        std::vector<std::byte> before(now, now + w.test.metadata_bytes());
        std::vector<std::uint64_t> moments;
        Stepper daemon([&] { return reclaim_victim(w); });
        while (daemon.step()) {
            if (std::memcmp(before.data(), now, before.size()) != 0) {
                before.assign(now, now + before.size());
                moments.push_back(daemon.steps());
            }
        }
        return moments;
    }
};

TEST_P(VictimDies, AndTheThiefToo) {
    World w(kSmall);
    die(w);
    Stepper thief([&] { return steal_and_put(w); });
    std::uint64_t deaths = 0;
    do {
        // As good as killed: what it left is in memory. Afterwards it goes on in what was there.
        std::byte* now = w.pool().base();
        const std::vector<std::byte> before(now, now + w.test.metadata_bytes());
        ASSERT_EQ(bury_victim(w), "") << "after " << deaths << " instructions";
        w.test.bury(kOther);
        ASSERT_EQ(fault_at_rest(w.test, 0, raw(kChecker)), "") << "after " << deaths;
        std::memcpy(now, before.data(), before.size());
        ++deaths;
    } while (thief.step());
    summarize("killed in", std::string("Steal, victim dead in ") + GetParam().name, deaths - 1,
              deaths, 0);
    EXPECT_GT(deaths, 100U);
}

TEST_P(VictimDies, BeforeTheThiefGoesOn) { kill_at_moments(true); }

TEST_P(VictimDies, BeforeTheThiefBegins) { kill_at_moments(false); }

TEST_P(VictimDies, AndIsReclaimedWhileTheThiefSteals) {
    const std::vector<std::uint64_t> changes = changes_in_reclaim();
    ASSERT_GT(changes.size(), 10U);
    for (const std::uint64_t change : changes) {
        SCOPED_TRACE("daemon stopped after " + std::to_string(change) + " instructions");
        World w(kSmall);
        die(w);
        Stepper daemon([&] { return reclaim_victim(w); });
        ASSERT_TRUE(daemon.step(change));
        const int result = steal_and_put(w);
        ASSERT_EQ(daemon.finish(), 0);
        ASSERT_EQ(bury_victim(w), "");
        ASSERT_EQ(fault_after_theft(w, result), "");
    }
}

INSTANTIATE_TEST_SUITE_P(Steal, VictimDies, testing::ValuesIn(kLastActs),
                         [](const auto& act) { return act.param.name; });

}  // namespace
}  // namespace mempool::test
