// Short names of what an audit finds and a repair mends, as tools show them.
//
// Used by Inspector and Admin.
#pragma once

#include <array>
#include <cstddef>

#include "mempool/shm/recovery/audit.hpp"

namespace mempool::detail {

[[nodiscard]] inline const char* name_of(std::size_t fault) noexcept {
    constexpr std::array<const char*, shm::kFaultCount> kNames = {
        "slot-state",    "slot-unlisted", "slot-holder",   "magazine-state", "magazine-owner",
        "magazine-item", "magazine-hint", "ring",          "lane-state",     "lane-owner",
        "client-record", "header",        "segment-table", "lane-map",       "waiters"};
    return fault < kNames.size() ? kNames[fault] : "unknown";
}
[[nodiscard]] inline const char* name_of(shm::Fault fault) noexcept {
    return name_of(static_cast<std::size_t>(fault));
}

}  // namespace mempool::detail
