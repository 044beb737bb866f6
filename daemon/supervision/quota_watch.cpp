#include "daemon/supervision/quota_watch.hpp"

namespace mempoold {

namespace {
constexpr std::chrono::minutes kReportPause{1};
}  // namespace

std::vector<std::uint32_t> QuotaWatch::look(const std::vector<std::uint64_t>& held_by,
                                            std::uint64_t quota, Clock::time_point now) {
    std::vector<std::uint32_t> report;
    for (std::uint32_t id = 1; id < held_by.size(); ++id) {
        if (quota == 0 || held_by[id] <= quota) {
            // One that goes up and down around it is told of once a minute too.
            const auto old = reported_.find(id);
            if (old != reported_.end() && (quota == 0 || now - old->second >= kReportPause)) {
                reported_.erase(old);
            }
            continue;
        }
        const auto [entry, is_new] = reported_.try_emplace(id, now);
        if (is_new || now - entry->second >= kReportPause) {
            entry->second = now;
            report.push_back(id);
        }
    }
    return report;
}

}  // namespace mempoold
