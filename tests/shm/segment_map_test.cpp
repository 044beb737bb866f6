// The address range of a pool: segments at their places, in order, and nothing beside them.
#include "mempool/shm/words/segment_map.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempool::shm {
namespace {

UniqueFd make_object(std::uint64_t bytes, char first) {
    UniqueFd fd(::memfd_create("segment_map_test", MFD_CLOEXEC));
    EXPECT_TRUE(fd);
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
    EXPECT_EQ(::pwrite(fd.get(), &first, 1, 0), 1);
    return fd;
}

// How many mappings of this process lie in [base, base + bytes).
int mappings_in(const std::byte* base, std::uint64_t bytes) {
    std::ifstream maps("/proc/self/maps");
    const auto from = reinterpret_cast<std::uintptr_t>(base);
    int count = 0;
    for (std::string line; std::getline(maps, line);) {
        const std::uintptr_t start = std::stoull(line, nullptr, 16);
        count += start >= from && start < from + bytes ? 1 : 0;
    }
    return count;
}

TEST(SegmentMap, MapsSegmentsAtTheirPlacesBehindOneAnother) {
    SegmentMap map(16 * kPage);
    {
        const UniqueFd a = make_object(4 * kPage, 'a');
        const UniqueFd b = make_object(3 * kPage, 'b');
        map.map(a.get(), 0, 0, 4 * kPage, true);
        map.map(b.get(), kPage, 6 * kPage, 2 * kPage, true);  // with a gap before it
    }
    EXPECT_EQ(static_cast<char>(map.base()[0]), 'a');
    map.base()[8 * kPage - 1] = std::byte{1};  // writable to its end
    EXPECT_TRUE(map.contains(map.base()));
    EXPECT_TRUE(map.contains(map.base() + 16 * kPage - 1));
    EXPECT_FALSE(map.contains(map.base() + 16 * kPage));
    EXPECT_FALSE(map.contains(map.base() - 1));
}

TEST(SegmentMap, SharesWhatItMaps) {
    const UniqueFd fd = make_object(kPage, 'x');
    SegmentMap one(4 * kPage);
    SegmentMap two(4 * kPage);
    one.map(fd.get(), 0, 0, kPage, true);
    two.map(fd.get(), 0, 0, kPage, false);
    one.base()[5] = std::byte{42};
    EXPECT_EQ(two.base()[5], std::byte{42});
}

TEST(SegmentMap, RefusesOverlapDisorderAndWhatDoesNotFit) {
    const UniqueFd fd = make_object(8 * kPage, 'x');
    SegmentMap map(8 * kPage);
    map.map(fd.get(), 0, 2 * kPage, 2 * kPage, true);
    EXPECT_THROW(map.map(fd.get(), 0, 0, kPage, true), std::system_error);
    EXPECT_THROW(map.map(fd.get(), 0, 3 * kPage, kPage, true), std::system_error);
    EXPECT_THROW(map.map(fd.get(), 0, 7 * kPage, 2 * kPage, true), std::system_error);
    EXPECT_THROW(map.map(fd.get(), 0, 8 * kPage, kPage, true), std::system_error);
    EXPECT_THROW(map.map(fd.get(), 0, 4 * kPage, ~std::uint64_t{0} - kPage + 1, true),
                 std::system_error);
    map.map(fd.get(), 4 * kPage, 4 * kPage, 4 * kPage, true);  // unharmed by those
}

TEST(SegmentMap, ReportsADescriptorThatCannotBeMapped) {
    SegmentMap map(4 * kPage);
    EXPECT_THROW(map.map(-1, 0, 0, kPage, true), std::system_error);
    const UniqueFd fd = make_object(kPage, 'x');
    map.map(fd.get(), 0, 0, kPage, true);
    EXPECT_EQ(static_cast<char>(map.base()[0]), 'x');
}

TEST(SegmentMap, LeavesNoMappingBehind) {
    constexpr std::uint64_t kBytes = 64 * kPage;
    const std::byte* base = nullptr;
    {
        SegmentMap map(kBytes);
        base = map.base();
        const UniqueFd fd = make_object(2 * kPage, 'x');
        map.map(fd.get(), 0, kPage, kPage, true);
        map.map(fd.get(), 0, 5 * kPage, kPage, true);
        map.map(fd.get(), 0, 6 * kPage, kPage, true);
        SegmentMap moved(std::move(map));
        EXPECT_EQ(moved.base(), base);
        EXPECT_GT(mappings_in(base, kBytes), 3);
    }
    EXPECT_EQ(mappings_in(base, kBytes), 0);
}

TEST(SegmentMap, ReservesALargeRangeWithoutMemory) {
    constexpr std::uint64_t kBytes = std::uint64_t{1} << 36U;
    const UniqueFd fd = make_object(kPage, 'x');
    SegmentMap map(kBytes);
    map.map(fd.get(), 0, kBytes - kPage, kPage, true);
    EXPECT_EQ(static_cast<char>(map.base()[kBytes - kPage]), 'x');
}

TEST(SegmentMap, SaysSoWhenThereIsNoAddressSpace) {
    EXPECT_THROW(SegmentMap(std::uint64_t{1} << 60U), std::system_error);
}

}  // namespace
}  // namespace mempool::shm
