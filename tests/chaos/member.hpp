// A member of the herd: this program executed anew as a client, and what it is told.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "multiprocess/worker.hpp"

namespace mempool_test {

constexpr const char* kMemberFlag = "--member";

/// Passed by arguments; descriptors are inherited.
struct MemberSetup {
    std::string socket;
    std::string pool;
    std::uint32_t life = 0;
    std::uint32_t seed = 0;
    std::uint32_t threads = 1;
    std::uint32_t most_held = 1;
    int tally = -1;
    std::array<int, 2> mail = {-1, -1};
};

/// The tally in the memory of descriptor `fd`, for as long as the process lives.
Tally& map_tally(int fd);

/// kMemberFlag and the setup, and back.
std::vector<std::string> arguments_of(const MemberSetup& setup);
MemberSetup setup_of(const std::vector<std::string>& arguments);

/// The whole life of a member; its exit status, 0 unless something went wrong that it has said. It
/// attaches, works for a while, leaves and comes back, until it is killed, told to stop, or has had
/// enough: then it ends, at times without returning what it has.
int live_as_member(const MemberSetup& setup);

}  // namespace mempool_test
