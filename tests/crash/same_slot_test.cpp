// A client stopped after every instruction of a put or an adopt, while another puts or adopts the
// same slot by its handle, or by one that it guessed: one of the two wins, whatever the moment, and
// the slot is handed out once.
//
// It tells F1 and A1, which compare and swap, from a plain store; and a slot whose handle nobody
// was given, for which F2 does, from one that was shown.
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

using shm::Lane;
using shm::PutResult;
using shm::SlotState;
using shm::SlotWord;
using shm::Taken;

enum class Use : std::uint8_t { kPut, kAdopt, kPutPrivate, kPutShown, kShowAndPut };

// Both name a slot that the victim holds, or that is detached.
struct Race {
    const char* name;
    Use victim;
    Use other;
    SlotState state = SlotState::kShown;
};

std::ostream& operator<<(std::ostream& out, const Race& race) { return out << race.name; }

PutResult use(Lane& lane, Use how, Taken t, std::uint32_t limit) {
    switch (how) {
        case Use::kPut:
            return lane.put(t, limit);
        case Use::kAdopt:
            return lane.adopt(t, limit);
        case Use::kPutPrivate:
            return lane.put_private(t);
        case Use::kPutShown:
            return lane.put_shown(t);
        default:
            return shm::test::show_and_put(lane, t);
    }
}

class StopClientInPut : public SteppedWith<Race> {
protected:
    static constexpr int kWon = 0;
    static constexpr int kStale = 1;
    static constexpr int kElse = 2;

    static int outcome(PutResult result) {
        switch (result) {
            case PutResult::kOk:
                return kWon;
            case PutResult::kStale:
                return kStale;
            default:
                return kElse;
        }
    }

    // A put and an adopt end the handle alike.
    static bool possible(int victim, int other) {
        return victim != kElse && other != kElse && (victim == kWon) != (other == kWon);
    }

    static bool is_free(const World& w, Taken t) {
        return SlotWord{w.pool().word(t.index).load()}.state() == SlotState::kFree;
    }
};

TEST_P(StopClientInPut, OfTwoThatTakeTheSameSlotOneWins) {
    const Race& race = GetParam();
    bool over = false;
    for (std::uint64_t steps = 0; !over; ++steps) {
        SCOPED_TRACE("stopped after " + std::to_string(steps) + " instructions");
        World w({.slot_size = 65536, .slots = 12, .capacity = 2});
        w.open_both();
        w.victim_holds = shm::test::get_all(*w.victim, w.test.limit(), 1);
        const Taken t = w.victim_holds.front();
        if (race.state == SlotState::kDetached) {
            ASSERT_EQ(w.victim->detach(t, w.test.limit()), PutResult::kOk);
        } else if (race.state == SlotState::kShown) {
            ASSERT_EQ(w.victim->show(t), PutResult::kOk);
        }
        Stepper child([&] { return outcome(use(*w.victim, race.victim, t, w.test.limit())); });
        over = !child.step(steps);
        const int other = outcome(use(*w.other, race.other, t, w.test.limit()));
        // Whoever returned it lost it: the next get may hand it out before the victim goes on.
        std::vector<Taken> next;
        if (is_free(w, t)) {
            next = shm::test::get_all(*w.other, w.test.limit());
        }
        const int victim = child.finish();
        if (race.victim == Use::kPutPrivate) {
            ASSERT_EQ(other, kStale) << "a handle that nobody was given was accepted";
        }
        ASSERT_TRUE(possible(victim, other)) << "victim " << victim << ", other " << other;
        for (const Taken& got : next) {
            ASSERT_TRUE(SlotWord{w.pool().word(got.index).load()}.is_held_by(kOther))
                << "slot " << raw(got.index) << " was taken from who got it";
            ASSERT_EQ(w.other->put_private(got), PutResult::kOk);
        }
        const SlotWord left{w.pool().word(t.index).load()};
        w.other_holds.clear();
        if (left.is_held_by(kOther)) {
            w.other_holds.push_back({t.index, left.generation()});
        }
        ASSERT_EQ(fault_after_death(w), "");
    }
}

INSTANTIATE_TEST_SUITE_P(
    Race, StopClientInPut,
    testing::Values(Race{"PutAndPut", Use::kPut, Use::kPut},
                    Race{"PutAndAdopt", Use::kPut, Use::kAdopt},
                    Race{"AdoptAndPut", Use::kAdopt, Use::kPut},
                    Race{"AdoptAndAdopt", Use::kAdopt, Use::kAdopt},
                    Race{"PutShownAndPut", Use::kPutShown, Use::kPut},
                    Race{"PutShownAndAdopt", Use::kPutShown, Use::kAdopt},
                    Race{"PutAndPutOfADetached", Use::kPut, Use::kPut, SlotState::kDetached},
                    Race{"AdoptAndPutOfADetached", Use::kAdopt, Use::kPut, SlotState::kDetached},
                    Race{"PutPrivateAndPutOfAGuess", Use::kPutPrivate, Use::kPut, SlotState::kHeld},
                    Race{"PutPrivateAndAdoptOfAGuess", Use::kPutPrivate, Use::kAdopt,
                         SlotState::kHeld},
                    Race{"ShowAndPutAndPut", Use::kShowAndPut, Use::kPut, SlotState::kHeld},
                    Race{"ShowAndPutAndAdopt", Use::kShowAndPut, Use::kAdopt, SlotState::kHeld}),
    [](const auto& race) { return race.param.name; });

}  // namespace
}  // namespace mempool::test
