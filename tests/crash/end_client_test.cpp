// A client that is ended while it stands after any instruction of any operation, and then goes on:
// it keeps nothing that others were given, loses nothing of what it has in hand, and does nothing
// more once its operation is over. And one that is ended by a daemon which itself stops anywhere.
#include "mempool/shm/recovery/end_client.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

using shm::EndedLanes;
using shm::GetResult;
using shm::PutResult;
using shm::SlotState;
using shm::SlotWord;
using shm::Taken;
using shm::test::get_all;

constexpr std::uint32_t kOver = 1;  // the victim's epoch, once it was ended

class EndClient : public SteppedWith<Scenario> {};

bool is_over(const World& w) { return w.pool().client(kVictim).epoch.load() == kOver; }

// In the child: what the victim does next, which must be refused if it was ended before.
int go_on(World& w) {
    constexpr int kNotRefused = 3;
    const bool has_lane = w.victim &&
                          shm::LaneWord{w.victim->record().word.load()}.client() == kVictim &&
                          shm::MagazineId{w.victim->record().loaded.load()} != shm::kNoMagazine;
    if (!has_lane || !is_over(w)) {
        return 0;
    }
    Taken t;
    if (w.victim->get(w.test.limit(), t) != GetResult::kEnded) {
        return kNotRefused;
    }
    if (!w.victim_holds.empty() &&
        w.victim->put(w.victim_holds.front(), w.test.limit()) != PutResult::kEnded) {
        return kNotRefused;
    }
    return w.victim->close() ? kNotRefused : 0;
}

// Slots that are in no client's hands.
std::size_t count_free(const World& w) {
    const shm::Census census = take_census(w.pool());
    return census.free + census.cached;
}

TEST_P(EndClient, AfterItsInstructionsItLosesAndKeepsNothing) {
    bool over = false;
    std::uint64_t stops = 0;
    const std::uint64_t stride = stride_of(GetParam());
    for (std::uint64_t steps = 0; !over; steps += stride, ++stops) {
        SCOPED_TRACE("ended after " + std::to_string(steps) + " instructions");
        World w(GetParam().options);
        GetParam().prepare(w);
        Stepper child([&] {
            const int result = GetParam().run(w);
            const int refused = go_on(w);
            // Being refused in the middle is no failure of the operation.
            return refused != 0 ? refused : is_over(w) ? 0 : result;
        });
        over = !child.step(steps);
        shm::raise_epoch(w.pool(), kVictim, kOver);
        const EndedLanes first = shm::shut_out(w.pool(), kVictim);
        rehint(w.pool());  // as the daemon does each second
        std::vector<Taken> got = get_all(*w.other, w.test.limit());
        if (first.busy == 0) {
            ASSERT_EQ(count_free(w), 0U) << "a slot is out of reach";
        }
        ASSERT_LE(child.finish(), kNothingLeft);
        for (const Taken& t : got) {
            const SlotWord word{w.pool().word(t.index).load()};
            ASSERT_TRUE(word.is_held_by(kOther) && word.generation() == t.generation)
                << "slot " << raw(t.index) << " was taken from who got it";
        }
        ASSERT_EQ(shm::shut_out(w.pool(), kVictim).busy, 0U);
        rehint(w.pool());
        for (const Taken& t : get_all(*w.other, w.test.limit())) {
            got.push_back(t);
        }
        ASSERT_EQ(count_free(w), 0U) << "a slot is out of reach";
        ASSERT_EQ(shm::test::text_of(audit(w.pool(), 0).findings), "");
        for (const Taken& t : got) {
            ASSERT_EQ(w.other->put_private(t), PutResult::kOk);
        }
        ASSERT_EQ(fault_after_death(w), "");
    }
    summarize("ended in", GetParam().name, (stops - 1) * stride, stops, 0);
}

INSTANTIATE_TEST_SUITE_P(Operation, EndClient, testing::ValuesIn(scenarios()),
                         [](const auto& scenario) { return scenario.param.name; });

// The daemon stops somewhere in a shut_out(), and the client works on.
using EndClientByAStoppedDaemon = Stepped;

TEST_F(EndClientByAStoppedDaemon, TheClientIsRefusedOrKeepsItsMagazine) {
    constexpr std::uint64_t kStride = 7;  // each from the beginning, and there are thousands
    bool over = false;
    for (std::uint64_t steps = 0; !over; steps += kStride) {
        SCOPED_TRACE("stopped after " + std::to_string(steps) + " instructions");
        World w(kSmall);
        w.open_both();
        std::vector<Taken> mine = get_all(*w.victim, w.test.limit(), 3);
        w.other_holds = get_all(*w.other, w.test.limit(), 2);
        Stepper daemon([&] {
            shm::raise_epoch(w.pool(), kVictim, kOver);
            return static_cast<int>(shm::shut_out(w.pool(), kVictim).busy);
        });
        over = !daemon.step(steps);
        bool refused = false;
        for (int k = 0; k < 6; ++k) {
            Taken t;
            if (k % 2 == 0) {
                const GetResult result = w.victim->get(w.test.limit(), t);
                ASSERT_FALSE(refused && result != GetResult::kEnded);
                refused = result == GetResult::kEnded;
                if (result == GetResult::kOk) {
                    mine.push_back(t);
                }
            } else if (const PutResult result = w.victim->put_private(mine.back());
                       result == PutResult::kOk) {
                ASSERT_FALSE(refused);
                mine.pop_back();
            } else {
                ASSERT_EQ(result, PutResult::kEnded);
                refused = true;
            }
        }
        ASSERT_EQ(daemon.finish(), 0);
        for (const Taken& t : mine) {
            ASSERT_TRUE(SlotWord{w.pool().word(t.index).load()}.is_held_by(kVictim));
        }
        ASSERT_EQ(shm::shut_out(w.pool(), kVictim).busy, 0U);
        const std::size_t free = count_free(w);
        const std::vector<Taken> got = get_all(*w.other, w.test.limit());
        ASSERT_EQ(got.size(), free);
        for (const Taken& t : got) {
            ASSERT_EQ(w.other->put_private(t), PutResult::kOk);
        }
        ASSERT_EQ(fault_after_death(w), "");
    }
}

}  // namespace
}  // namespace mempool::test
