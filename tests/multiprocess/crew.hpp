// A crew of processes that use one pool as hard as they can, and check themselves.
//
// Used by the multiprocess tests. Each member attaches, gets slots, writes a stamp into each, hands
// some over to whoever reads the crew's pipe, and compares the stamp before it returns one. Two
// holders of one slot, or a slot taken from a living process, show as a stamp overwritten or a
// return refused. Members may be killed at any moment.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace mempool_test {

/// What all members did, in memory that they share.
struct Tally {
    std::atomic<std::uint64_t> attached;
    std::atomic<std::uint64_t> gets;
    std::atomic<std::uint64_t> puts;
    std::atomic<std::uint64_t> sent;
    std::atomic<std::uint64_t> adopted;
    std::atomic<std::uint64_t> stale;       ///< adoptions refused: the sender died first
    std::atomic<std::uint64_t> violations;  ///< stamps that were wrong, returns refused
    std::atomic<std::uint32_t> stop;        ///< 1: return all and leave
};

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
    pid_t start_one();

    CrewOptions options_;
    Tally* tally_ = nullptr;
    std::array<int, 2> mail_ = {-1, -1};
    std::vector<pid_t> members_;
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
