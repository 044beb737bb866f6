// A client killed after every instruction of every operation: nothing is lost, nothing is doubled.
#include <gtest/gtest.h>

#include <string>

#include "crash/scenario.hpp"
#include "crash/stepper.hpp"

namespace mempool::test {
namespace {

class KillClient : public testing::TestWithParam<Scenario> {
protected:
    void SetUp() override {
        if (!can_trace()) {
            GTEST_SKIP() << "ptrace is not permitted here";
        }
    }
};

TEST_P(KillClient, AfterEveryInstructionLosesNothing) {
    bool over = false;
    std::uint64_t steps = 0;
    for (; !over; ++steps) {
        World world(GetParam().options);
        GetParam().prepare(world);
        {
            Stepper child([&] { return GetParam().run(world); });
            over = !child.step(steps);
            child.kill();
        }
        ASSERT_EQ(fault_after_death(world), "") << "killed after " << steps << " instructions";
    }
    RecordProperty("instructions", static_cast<int>(steps));
}

INSTANTIATE_TEST_SUITE_P(Operation, KillClient, testing::ValuesIn(scenarios()),
                         [](const auto& scenario) { return scenario.param.name; });

}  // namespace
}  // namespace mempool::test
