// The members that are at work, and who died how.
//
// Used by the chaos test, by one thread. Members are this program executed anew (member.hpp).
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "chaos/member.hpp"

namespace mempool_test {

/// Where members work; a pipe for each pool carries their handles.
struct Pasture {
    std::string pool;
    std::uint32_t most_held = 0;  ///< of each thread; may be changed for those who start later
};

/// Owns its processes: what is left when it goes is killed and reaped.
class Herd {
public:
    struct Counts {
        std::uint64_t started = 0;
        std::uint64_t killed = 0;
        std::uint64_t killed_stopped = 0;  ///< of these: while they were stopped
        std::uint64_t ended = 0;           ///< by themselves, in order or with slots in their hands
        std::uint64_t stopped = 0;
    };

    Herd(std::string socket, std::vector<Pasture> pastures, std::uint32_t members,
         std::uint64_t seed);
    Herd(const Herd&) = delete;
    Herd& operator=(const Herd&) = delete;
    ~Herd();

    /// SIGKILLs one, and starts another in its place.
    void kill_one();
    /// SIGSTOPs one, for at most 300 ms.
    void stop_one();
    /// Lets those go on who were stopped long enough, replaces those who ended. False, after a
    /// failure of the running test, if one ended as it should not.
    bool tend();
    /// Tells all to return what they have and leave; false, after a failure, if one does not.
    bool dismiss();

    [[nodiscard]] Tally& tally() noexcept { return tally_; }
    [[nodiscard]] const Counts& counts() const noexcept { return counts_; }
    [[nodiscard]] std::vector<Pasture>& pastures() noexcept { return pastures_; }

private:
    using Clock = std::chrono::steady_clock;
    struct Member {
        pid_t pid = -1;
        std::uint32_t life = 0;
        Clock::time_point go_on{};  // where stopped
        bool stopped = false;
    };

    void start(Member& member);
    static bool reap(Member& member, int options, bool killed);

    std::string socket_;
    std::vector<Pasture> pastures_;
    std::vector<std::array<int, 2>> mail_;
    int tally_fd_;
    Tally& tally_;
    std::mt19937_64 random_;
    std::vector<Member> members_;
    std::uint32_t next_life_ = 0;
    Counts counts_;
};

}  // namespace mempool_test
