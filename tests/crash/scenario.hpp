// What the crash tests kill and stop: operations of a client, each from a known state of a pool.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "shm/test_pool.hpp"

namespace mempool::test {

constexpr shm::ClientId kChecker{1};
constexpr shm::ClientId kVictim{2};
constexpr shm::ClientId kOther{3};

/// Two slots a magazine, so that every exchange is at hand. Large slots keep the metadata small,
/// and it is compared after every instruction; nobody touches the slots.
constexpr shm::test::PoolOptions kSmall{.slot_size = 65536, .slots = 12, .capacity = 2};

/// A pool with two clients at work: the victim, which a child process plays, and another, which
/// the test plays itself.
struct World {
    explicit World(const shm::test::PoolOptions& options) : test(options) {}

    shm::test::TestPool test;
    std::optional<shm::Lane> victim;
    std::optional<shm::Lane> other;
    std::vector<shm::Taken> victim_holds;
    std::vector<shm::Taken> other_holds;

    [[nodiscard]] const shm::Pool& pool() const { return test.pool(); }
    void open_both() {
        victim.emplace(test.open(shm::LaneId{2}, kVictim));
        other.emplace(test.open(shm::LaneId{3}, kOther));
    }
};

/// One operation of the victim.
struct Scenario {
    std::string name;
    shm::test::PoolOptions options;
    void (*prepare)(World&);
    int (*run)(World&);  ///< in the child; 0: it did what it should, kNothingLeft: it had to fail
    bool gives = false;  ///< gives a magazine to the depot: for a moment that one has no hint
};

/// So that GoogleTest names a case after it and not after its bytes.
inline std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
    return out << scenario.name;
}

constexpr int kNothingLeft = 1;

/// All of them.
const std::vector<Scenario>& scenarios();

/// How many instructions to go on between two stops, each of which steps there from the beginning:
/// one, but more where the operation takes thousands.
std::uint64_t stride_of(const Scenario& scenario);

/// Checks a pool whose victim is gone: reclaims, twice, lets the other return what it has and
/// leave, and looks whether every slot is there. Empty, or what is wrong.
std::string fault_after_death(World& world);

/// Prints a line that death_table.sh makes a row of docs/reliability.md: an operation of so many
/// `instructions` was ended or stopped so many `times`, and after `faults` of these something was
/// wrong.
void summarize(const char* what, const std::string& operation, std::uint64_t instructions,
               std::uint64_t times, std::uint64_t faults);

}  // namespace mempool::test
