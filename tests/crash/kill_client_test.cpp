// A client killed after every instruction of every operation: nothing is lost, nothing is doubled.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

/// A world as it was: its memory except the slots, and what the other client knows of itself.
class Keepsake {
public:
    explicit Keepsake(const World& world)
        : memory_(world.pool().base(), world.pool().base() + world.test.metadata_bytes()),
          other_(world.other),
          other_holds_(world.other_holds) {}

    void restore(World& world) const {
        std::memcpy(world.pool().base(), memory_.data(), memory_.size());
        world.other = other_;
        world.other_holds = other_holds_;
    }

private:
    std::vector<std::byte> memory_;
    std::optional<shm::Lane> other_;
    std::vector<shm::Taken> other_holds_;
};

class KillClient : public SteppedWith<Scenario> {};

TEST_P(KillClient, AfterEveryInstructionLosesNothing) {
    constexpr std::uint64_t kMostFaults = 5;  // one is bad enough; some more show a pattern
    std::uint64_t kills = 0;
    std::uint64_t faults = 0;
    World world(GetParam().options);
    GetParam().prepare(world);
    Stepper child([&] { return GetParam().run(world); });
    do {
        // The child stands still and is never seen again: as good as killed, for all that it left
        // is in memory. Afterwards it goes on in what was there before.
        const Keepsake before(world);
        const std::string fault = fault_after_death(world);
        EXPECT_EQ(fault, "") << "killed after " << kills << " instructions";
        faults += fault.empty() ? 0U : 1U;
        ++kills;
        before.restore(world);
    } while (child.step() && faults < kMostFaults);
    const std::string fault = fault_after_death(world);
    EXPECT_EQ(fault, "") << "killed when it was done";
    faults += fault.empty() ? 0U : 1U;
    summarize("killed in", GetParam().name, kills - 1, kills + 1, faults);
}

INSTANTIATE_TEST_SUITE_P(Operation, KillClient, testing::ValuesIn(scenarios()),
                         [](const auto& scenario) { return scenario.param.name; });

}  // namespace
}  // namespace mempool::test
