// What attach refuses: every way in which a header can be wrong, told from a sound one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using testing::HasSubstr;

class HeaderCheck : public testing::Test {
protected:
    // Copied once, changed, checked: as a process does that attaches.
    std::string check(const std::function<void(Header&)>& change) {
        alignas(Header) std::array<std::byte, sizeof(Header)> bytes{};
        std::memcpy(bytes.data(), &test_.pool().header(), sizeof(Header));
        auto& copy = *reinterpret_cast<Header*>(bytes.data());
        change(copy);
        return check_header(copy, bytes_);
    }

    test::TestPool test_;
    std::uint64_t bytes_ = segment_file_bytes(test_.pool().geometry(), 0, 16);
};

TEST_F(HeaderCheck, AcceptsAPoolJustMade) {
    EXPECT_EQ(check([](Header&) {}), "");
}

TEST_F(HeaderCheck, RefusesZeroedMemory) {
    EXPECT_THAT(check([](Header& h) { std::memset(static_cast<void*>(&h), 0, sizeof(h)); }),
                HasSubstr("magic"));
}

TEST_F(HeaderCheck, RefusesATruncatedObject) {
    bytes_ = sizeof(Header) - 1;
    EXPECT_THAT(check([](Header&) {}), HasSubstr("shorter than a pool's header"));
    bytes_ = 0;
    EXPECT_NE(check([](Header&) {}), "");
    bytes_ = test_.pool().geometry().slots_offset - 1;
    EXPECT_THAT(check([](Header&) {}), HasSubstr("truncated"));
}

TEST_F(HeaderCheck, RefusesAnotherLayoutVersion) {
    EXPECT_THAT(check([](Header& h) { h.layout_version = kLayoutVersion + 1; }),
                HasSubstr("layout version is " + std::to_string(kLayoutVersion + 1) +
                          ", this build knows " + std::to_string(kLayoutVersion)));
    EXPECT_NE(check([](Header& h) { h.layout_version = 0; }), "");
}

TEST_F(HeaderCheck, RefusesFeaturesItDoesNotKnowButIgnoresCompatibleOnes) {
    EXPECT_THAT(check([](Header& h) { h.incompat = 1U << 31U; }), HasSubstr("incompat"));
    EXPECT_THAT(check([](Header& h) { h.ro_compat = 1; }), HasSubstr("ro_compat"));
    EXPECT_EQ(check([](Header& h) { h.compat = ~0U; }), "");
}

TEST_F(HeaderCheck, RefusesAnotherAbi) {
    EXPECT_THAT(check([](Header& h) { h.fingerprint ^= 1; }), HasSubstr("ABI"));
    EXPECT_NE(check([](Header& h) { h.header_bytes = 2048; }), "");
    EXPECT_THAT(check([](Header& h) { h.class_count = 2; }), HasSubstr("size classes"));
    EXPECT_NE(check([](Header& h) { h.class_count = 0; }), "");
}

TEST_F(HeaderCheck, RefusesAPoolThatIsNotReady) {
    EXPECT_THAT(check([](Header& h) { h.state.store(PoolState::kCreating); }),
                HasSubstr("not finished"));
    EXPECT_NE(check([](Header& h) { h.state.store(PoolState{1}); }), "");
}

TEST_F(HeaderCheck, RefusesEachSizeThatContradictsTheOthers) {
    // Every 32-bit word of the geometry in turn: either a bound is broken or a sum is wrong.
    for (std::size_t at = 0; at < sizeof(Geometry); at += 4) {
        const auto flip = [at](Header& h) {
            std::uint32_t part = 0;
            auto* bytes = reinterpret_cast<std::byte*>(&h.geometry) + at;
            std::memcpy(&part, bytes, 4);
            part ^= 0x0101'0101U;
            std::memcpy(bytes, &part, 4);
        };
        EXPECT_THAT(check(flip), HasSubstr("contradict")) << "geometry, byte " << at;
    }
}

TEST_F(HeaderCheck, RefusesANameWithoutEnd) {
    EXPECT_THAT(check([](Header& h) { std::memset(h.name, 'x', sizeof(h.name)); }),
                HasSubstr("not terminated"));
}

TEST(Pool, BoundsWhatItReadsFromTheSegmentTable) {
    test::TestPool test;
    const Pool& pool = test.pool();
    const Geometry& g = pool.geometry();
    pool.segment(0).slot_count = ~0U - 1;
    pool.segment(0).magazine_count = ~0U - 1;
    EXPECT_LE(pool.index_limit(), g.index_capacity);
    EXPECT_LE(pool.magazine_limit(), g.magazine_count);
    pool.live().segment_count.store(~0U);
    EXPECT_EQ(pool.segment_count(), kMaxSegments);
    EXPECT_LE(pool.index_limit(), g.index_capacity);
    pool.live().segment_count.store(0);
    EXPECT_EQ(pool.index_limit(), 0U);
    EXPECT_EQ(pool.magazine_limit(), 1U);
}

}  // namespace
}  // namespace mempool::shm
