// A crew of processes that use one pool as hard as they can, and check themselves.
//
// Used by the multiprocess tests. Each member attaches once and works on several threads, as
// worker.hpp says, until it is told to stop. Members may be killed at any moment.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "multiprocess/worker.hpp"

namespace mempool_test {

struct CrewOptions {
    std::string socket;
    std::string pool;
    std::uint32_t members = 5;
    std::uint32_t threads = 2;     ///< of each member
    std::uint32_t most_held = 40;  ///< slots a thread holds at most
};

/// Owns the processes, their pipe and their tally. Kills what is left when it goes. Use it in a
/// process that has no client of its own: members are forked.
class Crew {
public:
    explicit Crew(CrewOptions options);
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;
    ~Crew();

    /// SIGKILLs one member, chosen at random, and starts another in its place.
    void replace_one();
    /// Tells all to return what they have and leave; how many did not end with status 0.
    std::uint32_t dismiss();

    [[nodiscard]] const Tally& tally() const { return *tally_; }
    [[nodiscard]] const std::vector<pid_t>& members() const { return members_; }

private:
    pid_t start_one(std::uint32_t life);

    CrewOptions options_;
    Tally* tally_ = nullptr;
    std::array<int, 2> mail_ = {-1, -1};
    std::vector<pid_t> members_;
    std::vector<std::uint32_t> lives_;  // of the members
    std::mt19937 random_{12345};
};

/// A number from the environment, or `usual`.
std::uint32_t setting(const char* name, std::uint32_t usual);

/// Sleeps a random time up to `most_us` microseconds.
void sleep_random(std::mt19937& random, std::uint32_t most_us);

/// Waits until nobody is attached and every slot is free, detached ones freed by request. Fails the
/// running test if that does not come about, or the audit finds anything.
void expect_whole(const std::string& socket, const std::string& pool);

}  // namespace mempool_test
