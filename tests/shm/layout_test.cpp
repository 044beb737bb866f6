// The golden layout: every size and offset of what processes share, against a checked-in text.
//
// A change of layout shows up as a diff of layout.golden, for review. To accept one, bump
// kLayoutVersion, run this test with MEMPOOL_UPDATE_GOLDEN=1 in the environment, and check the
// file in.
#include "mempool/shm/words/layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "mempool/shm/wire.hpp"
#include "mempool/shm/words/words.hpp"

namespace mempool::shm {
namespace {

struct Field {
    std::string name;
    std::size_t offset, size;
};

#define MEMPOOL_FIELD(type, name) \
    Field { #name, offsetof(type, name), sizeof(type::name) }

std::string line(std::size_t offset, std::size_t size, const std::string& what) {
    char text[160];
    std::snprintf(text, sizeof(text), "  %6zu %6zu  %s\n", offset, size, what.c_str());
    return text;
}

// Gaps stand in the text as well, so a field left out of the list below is seen.
std::string dump(const char* type, std::size_t size, const std::vector<Field>& fields) {
    std::string text = std::string(type) + ": " + std::to_string(size) + " bytes\n";
    std::size_t at = 0;
    for (const Field& field : fields) {
        if (field.offset > at) {
            text += line(at, field.offset - at, "(padding)");
        }
        text += line(field.offset, field.size, field.name);
        at = field.offset + field.size;
    }
    if (at < size) {
        text += line(at, size - at, "(padding)");
    }
    return text + "\n";
}

#define MEMPOOL_DUMP(type, ...) dump(#type, sizeof(type), {__VA_ARGS__})

std::string dump_segment_zero() {
    using H = Header;
    using L = Live;
    using R = RingState;
    return MEMPOOL_DUMP(
               Header, MEMPOOL_FIELD(H, magic), MEMPOOL_FIELD(H, layout_version),
               MEMPOOL_FIELD(H, header_bytes), MEMPOOL_FIELD(H, compat), MEMPOOL_FIELD(H, incompat),
               MEMPOOL_FIELD(H, ro_compat), MEMPOOL_FIELD(H, class_count),
               MEMPOOL_FIELD(H, fingerprint), MEMPOOL_FIELD(H, created_at), MEMPOOL_FIELD(H, uuid),
               MEMPOOL_FIELD(H, generation_0), MEMPOOL_FIELD(H, state), MEMPOOL_FIELD(H, name),
               MEMPOOL_FIELD(H, geometry), MEMPOOL_FIELD(H, runtime_device),
               MEMPOOL_FIELD(H, runtime_inode), MEMPOOL_FIELD(H, reserved)) +
           MEMPOOL_DUMP(Live, MEMPOOL_FIELD(L, now), MEMPOOL_FIELD(L, segment_count),
                        MEMPOOL_FIELD(L, options), MEMPOOL_FIELD(L, waiters),
                        MEMPOOL_FIELD(L, quota), MEMPOOL_FIELD(L, grow_wanted),
                        MEMPOOL_FIELD(L, wake_sequence), MEMPOOL_FIELD(L, promised_until),
                        MEMPOOL_FIELD(L, pulses_felt_at), MEMPOOL_FIELD(L, reclaimed),
                        MEMPOOL_FIELD(L, deaths), MEMPOOL_FIELD(L, grown),
                        MEMPOOL_FIELD(L, grow_failures), MEMPOOL_FIELD(L, daemon_pid),
                        MEMPOOL_FIELD(L, daemon_starts), MEMPOOL_FIELD(L, growing),
                        MEMPOOL_FIELD(L, growth_deaths), MEMPOOL_FIELD(L, ticked_at),
                        MEMPOOL_FIELD(L, ticked_in), MEMPOOL_FIELD(L, reserved)) +
           MEMPOOL_DUMP(RingState, MEMPOOL_FIELD(R, head), MEMPOOL_FIELD(R, tail));
}

std::string dump_sizes() {
    using S = Shape;
    using G = Geometry;
    return MEMPOOL_DUMP(Shape, MEMPOOL_FIELD(S, slot_size), MEMPOOL_FIELD(S, max_slots),
                        MEMPOOL_FIELD(S, magazine_capacity), MEMPOOL_FIELD(S, client_count),
                        MEMPOOL_FIELD(S, shard_count), MEMPOOL_FIELD(S, channel_room)) +
           MEMPOOL_DUMP(Geometry, MEMPOOL_FIELD(G, shape), MEMPOOL_FIELD(G, slot_stride),
                        MEMPOOL_FIELD(G, range_bytes), MEMPOOL_FIELD(G, clients_offset),
                        MEMPOOL_FIELD(G, lanes_offset), MEMPOOL_FIELD(G, lane_map_offset),
                        MEMPOOL_FIELD(G, rings_offset), MEMPOOL_FIELD(G, cells_offset),
                        MEMPOOL_FIELD(G, records_offset), MEMPOOL_FIELD(G, magazines_offset),
                        MEMPOOL_FIELD(G, slots_offset), MEMPOOL_FIELD(G, index_granule),
                        MEMPOOL_FIELD(G, index_capacity), MEMPOOL_FIELD(G, lane_count),
                        MEMPOOL_FIELD(G, magazine_count), MEMPOOL_FIELD(G, magazine_stride),
                        MEMPOOL_FIELD(G, ring_capacity));
}

std::string dump_records() {
    using E = SegmentEntry;
    using S = SegmentHeader;
    using C = ClientRecord;
    using L = LaneRecord;
    using R = SlotRecord;
    using M = MagazineHead;
    return MEMPOOL_DUMP(SegmentEntry, MEMPOOL_FIELD(E, first_index), MEMPOOL_FIELD(E, slot_count),
                        MEMPOOL_FIELD(E, first_magazine), MEMPOOL_FIELD(E, magazine_count),
                        MEMPOOL_FIELD(E, added_at), MEMPOOL_FIELD(E, object)) +
           MEMPOOL_DUMP(SegmentHeader, MEMPOOL_FIELD(S, magic), MEMPOOL_FIELD(S, layout_version),
                        MEMPOOL_FIELD(S, number), MEMPOOL_FIELD(S, uuid), MEMPOOL_FIELD(S, entry),
                        MEMPOOL_FIELD(S, reserved)) +
           MEMPOOL_DUMP(ClientRecord, MEMPOOL_FIELD(C, state), MEMPOOL_FIELD(C, pid),
                        MEMPOOL_FIELD(C, uid), MEMPOOL_FIELD(C, gid), MEMPOOL_FIELD(C, process),
                        MEMPOOL_FIELD(C, attached_at), MEMPOOL_FIELD(C, epoch),
                        MEMPOOL_FIELD(C, command), MEMPOOL_FIELD(C, token_hash),
                        MEMPOOL_FIELD(C, pid_namespace), MEMPOOL_FIELD(C, time_namespace)) +
           MEMPOOL_DUMP(LaneRecord, MEMPOOL_FIELD(L, word), MEMPOOL_FIELD(L, loaded),
                        MEMPOOL_FIELD(L, previous), MEMPOOL_FIELD(L, busy),
                        MEMPOOL_FIELD(L, revoked), MEMPOOL_FIELD(L, waiting),
                        MEMPOOL_FIELD(L, pulse), MEMPOOL_FIELD(L, gets), MEMPOOL_FIELD(L, puts),
                        MEMPOOL_FIELD(L, exhausted), MEMPOOL_FIELD(L, refused),
                        MEMPOOL_FIELD(L, steals), MEMPOOL_FIELD(L, farewell),
                        MEMPOOL_FIELD(L, mapped_at), MEMPOOL_FIELD(L, counted),
                        MEMPOOL_FIELD(L, pulse_before), MEMPOOL_FIELD(L, reserved1)) +
           MEMPOOL_DUMP(SlotRecord, MEMPOOL_FIELD(R, word), MEMPOOL_FIELD(R, time),
                        MEMPOOL_FIELD(R, tag)) +
           MEMPOOL_DUMP(MagazineHead, MEMPOOL_FIELD(M, word), MEMPOOL_FIELD(M, count),
                        MEMPOOL_FIELD(M, reserved));
}

std::string dump_messages() {
    using Q = Request;
    using A = Reply;
    return MEMPOOL_DUMP(Request, MEMPOOL_FIELD(Q, magic), MEMPOOL_FIELD(Q, version),
                        MEMPOOL_FIELD(Q, kind), MEMPOOL_FIELD(Q, values), MEMPOOL_FIELD(Q, pool)) +
           MEMPOOL_DUMP(Reply, MEMPOOL_FIELD(A, magic), MEMPOOL_FIELD(A, version),
                        MEMPOOL_FIELD(A, kind), MEMPOOL_FIELD(A, error), MEMPOOL_FIELD(A, reserved),
                        MEMPOOL_FIELD(A, values), MEMPOOL_FIELD(A, text));
}

std::string dump_values() {
    std::ostringstream out;
    const auto value = [&out](const char* name, std::uint64_t number) {
        out << "  " << name << " = " << number << '\n';
    };
    out << "values\n";
    value("kLayoutVersion", kLayoutVersion);
    value("kWireVersion", kWireVersion);
    value("kMagic", kMagic);
    value("kSegmentMagic", kSegmentMagic);
    value("kWireMagic", kWireMagic);
    value("kFingerprint", kFingerprint);
    value("kMaxSegments", kMaxSegments);
    value("kMagazinesPerLane", kMagazinesPerLane);
    value("kLanesPerClient", kLanesPerClient);
    value("kPlaceBits", kPlaceBits);
    value("PoolState::kReady", static_cast<std::uint64_t>(PoolState::kReady));
    value("kEraseOnPut", kEraseOnPut);
    value("a SlotWord free(3, magazine 2)", SlotWord::free(Generation{3}, MagazineId{2}).bits);
    value("a SlotWord held(3, client 2)", SlotWord::held(Generation{3}, ClientId{2}).bits);
    value("a SlotWord shown(3, client 2)", SlotWord::shown(Generation{3}, ClientId{2}).bits);
    value("a SlotWord detached(3)", SlotWord::detached(Generation{3}).bits);
    value("a MagazineWord full(3)", MagazineWord::make(3, MagazineState::kFull).bits);
    value("a MagazineWord empty(3)", MagazineWord::make(3, MagazineState::kEmpty).bits);
    value("a MagazineWord owned(3, lane 2)",
          MagazineWord::make(3, MagazineState::kOwned, LaneId{2}).bits);
    value("a LaneWord owned(3, client 2)", LaneWord::make(3, LaneState::kOwned, ClientId{2}).bits);
    return out.str();
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string l; std::getline(in, l);) {
        lines.push_back(l);
    }
    return lines;
}

// Line by line: a layout change that moves all that follows shows as many lines, as it should.
std::string diff(const std::string& golden, const std::string& now) {
    const auto a = lines_of(golden);
    const auto b = lines_of(now);
    std::string text;
    for (std::size_t k = 0; k < std::max(a.size(), b.size()); ++k) {
        const std::string left = k < a.size() ? a[k] : "";
        const std::string right = k < b.size() ? b[k] : "";
        if (left != right) {
            text.append("-").append(left).append("\n+").append(right).append("\n");
        }
    }
    return text;
}

TEST(Layout, IsTheOneCheckedIn) {
    const std::string now = "# offset, size, field; written by layout_test, see there\n\n" +
                            dump_segment_zero() + dump_sizes() + dump_records() + dump_messages() +
                            dump_values();
    if (std::getenv("MEMPOOL_UPDATE_GOLDEN") != nullptr) {
        std::ofstream(MEMPOOL_LAYOUT_GOLDEN) << now;
    }
    std::ifstream in(MEMPOOL_LAYOUT_GOLDEN);
    ASSERT_TRUE(in) << MEMPOOL_LAYOUT_GOLDEN << " cannot be read";
    std::ostringstream golden;
    golden << in.rdbuf();
    EXPECT_EQ(diff(golden.str(), now), "")
        << "the layout changed: if that is meant, bump kLayoutVersion and run this test with "
           "MEMPOOL_UPDATE_GOLDEN=1";
}

// A row of the picture that names no struct, or one whose size nobody asserts, is out of date.
TEST(Layout, ThePictureNamesTheStructsThatAreAsserted) {
    std::ifstream in(MEMPOOL_LAYOUT_HEADER);
    ASSERT_TRUE(in) << MEMPOOL_LAYOUT_HEADER << " cannot be read";
    std::ostringstream text;
    text << in.rdbuf();
    const std::string header = text.str();
    std::size_t rows = 0;
    for (const std::string& line : lines_of(header)) {
        if (line.rfind("//", 0) != 0) {
            break;  // the end of the first comment
        }
        for (std::size_t at = line.find("| "); at != std::string::npos;
             at = line.find("| ", at + 1)) {
            const std::size_t end = line.find(' ', at + 2);
            const std::string name = line.substr(at + 2, end - at - 2);
            if (name.empty() || name[0] < 'A' || name[0] > 'Z') {
                continue;
            }
            ++rows;
            EXPECT_NE(header.find("struct " + name + " {"), std::string::npos) << name;
            EXPECT_NE(header.find("sizeof(" + name + ") =="), std::string::npos) << name;
        }
    }
    EXPECT_EQ(rows, 8U);
}

}  // namespace
}  // namespace mempool::shm
