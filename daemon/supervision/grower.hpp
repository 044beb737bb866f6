// Whether a pool grows now, and by how much: figures in, decision out.
//
// Called by ServedPool when something changed. Pure: no clock, no I/O, no shared memory.
#pragma once

#include <cstdint>
#include <optional>

namespace mempoold {

struct GrowthFigures {
    std::uint32_t slots = 0;  ///< there are now
    std::uint32_t max_slots = 0;
    std::uint32_t segments = 0;
    std::uint64_t free = 0;       ///< in the depot
    std::uint64_t watermark = 0;  ///< free slots below which it grows
    bool wanted = false;          ///< a client found the depot empty
    std::optional<std::uint32_t> grow_slots;
    double grow_factor = 2;  ///< where grow_slots is not given
};

/// Slots to add; 0: don't grow.
std::uint32_t decide_growth(const GrowthFigures& figures) noexcept;

/// How long to wait before trying again after `failures` refusals in a row, in milliseconds: one
/// second, doubled each time up to a minute.
std::uint32_t growth_backoff_ms(std::uint32_t failures) noexcept;

}  // namespace mempoold
