// A client stopped after every instruction of every operation: the others get and return all slots
// but those in its hands, nobody hangs, nothing is mended that isn't broken; then it goes on.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

using shm::Fault;
using shm::MagazineId;
using shm::MagazineState;
using shm::MagazineWord;
using shm::PutResult;
using shm::SlotIndex;
using shm::SlotWord;
using shm::Taken;
using shm::test::get_all;

// Whether the lane works with magazine `m` and is in no operation: then its slots can be stolen.
bool idle_with(const shm::Lane& lane, MagazineId m) {
    const shm::LaneRecord& record = lane.record();
    return record.busy.load() == 0 &&
           (MagazineId{record.loaded.load()} == m || MagazineId{record.previous.load()} == m);
}

// Slots that anybody can get: free in a magazine that is FULL and has a hint, or in one that the
// victim was not at work with when it stopped.
std::size_t within_reach(const World& w) {
    const shm::Pool& pool = w.pool();
    const std::vector<bool> hinted = shm::find_hints(pool).full;
    std::size_t count = 0;
    for (std::uint32_t i = 0; i < pool.index_limit(); ++i) {
        const SlotWord word{pool.word(SlotIndex{i}).load()};
        const MagazineId m = word.magazine();
        if (word.state() != shm::SlotState::kFree) {
            continue;
        }
        const MagazineWord magazine{pool.magazine(m).word.load()};
        const bool in_depot = magazine.state() == MagazineState::kFull && hinted[raw(m)];
        const bool stealable = magazine.state() == MagazineState::kOwned && w.victim &&
                               magazine.lane() == w.victim->id() && idle_with(*w.victim, m);
        count += in_depot || stealable ? 1U : 0U;
    }
    return count;
}

// What the other client does while the victim stands still. Empty, or what went wrong.
std::string work_beside(World& w, bool gives, std::vector<Taken>& got) {
    const shm::Pool& pool = w.pool();
    for (const shm::Finding& f : audit(pool, 0).findings) {
        if (f.fault != Fault::kMagazineHint || !gives) {
            return "audit: " + shm::test::text_of({f});
        }
    }
    const std::size_t own = take_census(pool).held_by[raw(kOther)];
    const std::size_t most = w.test.slots() + 1;
    w.other->close();
    const std::size_t expected = within_reach(w);
    if (!w.other->open()) {
        return "no magazines for the other's lane";
    }
    got = get_all(*w.other, w.test.limit(), most);
    if (got.size() != expected) {
        return std::to_string(got.size()) + " got, " + std::to_string(expected) + " in reach";
    }
    rehint(pool);  // as the daemon does, now and then
    for (const Taken& t : get_all(*w.other, w.test.limit(), most)) {
        got.push_back(t);
    }
    if (take_census(pool).held_by[raw(kOther)] != own + got.size()) {
        return "the other holds more or less than it got";
    }
    const auto findings = audit(pool, 0).findings;
    return findings.empty() ? "" : "audit: " + shm::test::text_of(findings);
}

std::string put_all(World& w, const std::vector<Taken>& taken) {
    for (const Taken& t : taken) {
        if (w.other->put_private(t) != PutResult::kOk) {
            return "the other could not return slot " + std::to_string(raw(t.index));
        }
    }
    return "";
}

class StopClient : public SteppedWith<Scenario> {
protected:
    // Stops after each `stride`th instruction in turn, or less often (stride_of()), in a new pool.
    // The other returns what it got before the victim goes on, or after it is done.
    static void stop_everywhere(std::uint64_t stride, bool return_before) {
        stride *= stride_of(GetParam());
        bool over = false;
        std::uint64_t stops = 0;
        std::uint64_t instructions = 0;
        for (std::uint64_t steps = 0; !over; steps += stride) {
            SCOPED_TRACE("stopped after " + std::to_string(steps) + " instructions");
            World world(GetParam().options);
            GetParam().prepare(world);
            Stepper child([&] { return GetParam().run(world); });
            over = !child.step(steps);
            ++stops;
            instructions = child.steps();
            std::vector<Taken> got;
            ASSERT_EQ(work_beside(world, GetParam().gives, got), "");
            if (return_before) {
                ASSERT_EQ(put_all(world, got), "");
                world.other->close();
                (void)world.other->open();
            }
            ASSERT_LE(child.finish(), kNothingLeft);
            ASSERT_EQ(shm::test::text_of(audit(world.pool(), 0).findings), "");
            if (!return_before) {
                ASSERT_EQ(put_all(world, got), "");
            }
            ASSERT_EQ(fault_after_death(world), "");
        }
        summarize(return_before ? "stopped in" : "went on in", GetParam().name, instructions, stops,
                  0);
    }
};

TEST_P(StopClient, AfterItsInstructionsHoldsUpNobody) { stop_everywhere(1, true); }

TEST_P(StopClient, AndGoingOnInAPoolEmptiedMeanwhileLosesNothing) { stop_everywhere(3, false); }

INSTANTIATE_TEST_SUITE_P(Operation, StopClient, testing::ValuesIn(scenarios()),
                         [](const auto& scenario) { return scenario.param.name; });

}  // namespace
}  // namespace mempool::test
