// Which clients hold more slots than their pool's quota, and when to say so again.
//
// Used by ServedPool each second, on the daemon's one thread. Pure: figures in, names out. The
// daemon takes nothing away: whoever keeps the rule stops by itself, and of who doesn't it tells.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

namespace mempoold {

class QuotaWatch {
public:
    using Clock = std::chrono::steady_clock;

    /// The ids of those to be reported now: who got over `quota` (0: nobody is), and who still is
    /// after a minute. `held_by` has the slots held by client id, the daemon's at 0 left out.
    std::vector<std::uint32_t> look(const std::vector<std::uint64_t>& held_by, std::uint64_t quota,
                                    Clock::time_point now);

private:
    std::map<std::uint32_t, Clock::time_point> reported_;  // of those over it: when
};

}  // namespace mempoold
