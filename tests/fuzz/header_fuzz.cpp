// check_header(), make_geometry() and check_segment_entry(): foreign headers are judged, not
// followed.
#include <cstdlib>
#include <cstring>

#include "fuzz/input.hpp"
#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/words/pool.hpp"

namespace {

namespace shm = mempool::shm;
using mempool_fuzz::Input;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

// What is accepted must be safe to follow.
void check_geometry(const shm::Geometry& g) {
    require(g.magazine_count >= 2 && g.magazine_count <= shm::kMaxPlace);
    require(g.index_capacity >= g.shape.max_slots && g.index_capacity <= shm::kMaxIndices);
    require(std::uint64_t{g.ring_capacity} * g.shape.shard_count >= 2 * g.magazine_count);
    require((g.ring_capacity & (g.ring_capacity - 1)) == 0);
    require(g.slots_offset >=
            g.magazines_offset + std::uint64_t{g.magazine_count} * g.magazine_stride);
    require(g.slots_offset % shm::kPage == 0 && g.range_bytes <= shm::kMaxRangeBytes);
    require(g.slot_stride >= g.shape.slot_size);
}

void try_segments(const shm::Geometry& g, Input& input) {
    shm::SegmentEntry previous{};
    for (std::uint32_t number = 0; number < shm::kMaxSegments && !input.empty(); ++number) {
        const auto choice = input.take<std::uint8_t>();
        auto entry = shm::next_segment(g, number, input.take<std::uint32_t>(),
                                       number == 0 ? nullptr : &previous, 0);
        if (choice % 4 == 0) {
            entry.first_index = input.take<std::uint32_t>();
        } else if (choice % 4 == 1) {
            entry.magazine_count = input.take<std::uint32_t>();
        }
        if (!check_segment_entry(g, number, entry, number == 0 ? nullptr : &previous).empty()) {
            continue;
        }
        require(std::uint64_t{entry.first_index} + entry.slot_count <= g.index_capacity);
        require(std::uint64_t{entry.first_magazine} + entry.magazine_count <= g.magazine_count);
        require(number == 0 || entry.first_index >= previous.end_index());
        previous = entry;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    shm::Header header;
    std::memset(static_cast<void*>(&header), 0, sizeof(header));
    header.magic = shm::kMagic;
    header.layout_version = shm::kLayoutVersion;
    header.header_bytes = sizeof(header);
    header.class_count = 1;
    header.fingerprint = shm::kFingerprint;
    header.state.store(shm::PoolState::kReady);
    const shm::Shape shape{
        .slot_size = input.take<std::uint64_t>() >> (input.take<std::uint8_t>() % 64U),
        .max_slots = input.take<std::uint32_t>() >> (input.take<std::uint8_t>() % 32U),
        .magazine_capacity = input.take<std::uint8_t>(),
        .client_count = input.take<std::uint16_t>(),
        .shard_count = input.take<std::uint8_t>()};
    if (const auto geometry = make_geometry(shape)) {
        check_geometry(*geometry);
        header.geometry = *geometry;
        try_segments(*geometry, input);
    }
    for (int k = 0; k < 8 && !input.empty(); ++k) {
        const std::size_t at = input.take<std::uint16_t>() % sizeof(header);
        reinterpret_cast<std::uint8_t*>(&header)[at] = input.take<std::uint8_t>();
    }
    if (check_header(header, input.take<std::uint64_t>()).empty()) {
        check_geometry(header.geometry);
    }
    return 0;
}
