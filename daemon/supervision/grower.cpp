#include "daemon/supervision/grower.hpp"

#include <algorithm>
#include <cmath>

#include "mempool/shm/words/layout.hpp"

namespace mempoold {

std::uint32_t decide_growth(const GrowthFigures& f) noexcept {
    using mempool::shm::kMaxSegments;
    if (f.slots >= f.max_slots || f.segments >= kMaxSegments) {
        return 0;
    }
    if (!f.wanted && f.free >= f.watermark) {
        return 0;
    }
    const std::uint32_t room = f.max_slots - f.slots;
    // So much at least that the segments left reach max_slots.
    const std::uint32_t segments_left = kMaxSegments - f.segments;
    const std::uint32_t least = room / segments_left + (room % segments_left != 0 ? 1U : 0U);
    const double by_factor = std::ceil(f.slots * (f.grow_factor - 1));
    const std::uint32_t wished = f.grow_slots.value_or(
        by_factor < room ? static_cast<std::uint32_t>(std::max(by_factor, 1.0)) : room);
    return std::clamp(wished, least, room);
}

std::uint32_t growth_backoff_ms(std::uint32_t failures) noexcept {
    constexpr std::uint32_t kFirst = 1000;
    constexpr std::uint32_t kLongest = 60'000;
    const std::uint32_t doublings = std::min(failures == 0 ? 0 : failures - 1, 6U);
    return std::min(kFirst << doublings, kLongest);
}

}  // namespace mempoold
