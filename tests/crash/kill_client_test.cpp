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
    constexpr std::uint64_t kMostFaults = 5;  // one is bad enough; some more show a pattern
    bool over = false;
    std::uint64_t kills = 0;
    std::uint64_t faults = 0;
    for (; !over && faults < kMostFaults; ++kills) {
        World world(GetParam().options);
        GetParam().prepare(world);
        {
            Stepper child([&] { return GetParam().run(world); });
            over = !child.step(kills);
            child.kill();
        }
        const std::string fault = fault_after_death(world);
        EXPECT_EQ(fault, "") << "killed after " << kills << " instructions";
        faults += fault.empty() ? 0U : 1U;
    }
    summarize("killed in", GetParam().name, kills - 1, kills, faults);
}

INSTANTIATE_TEST_SUITE_P(Operation, KillClient, testing::ValuesIn(scenarios()),
                         [](const auto& scenario) { return scenario.param.name; });

}  // namespace
}  // namespace mempool::test
