// Sizes, numbers and lists as people write them.
#include "daemon/config/units.hpp"

#include <gmock/gmock.h>

namespace mempoold {
namespace {

TEST(Units, SizesTakeDecimalAndBinaryUnits) {
    EXPECT_EQ(parse_size("1"), 1U);
    EXPECT_EQ(parse_size("1500"), 1500U);
    EXPECT_EQ(parse_size("2K"), 2000U);
    EXPECT_EQ(parse_size("3M"), 3'000'000U);
    EXPECT_EQ(parse_size("4G"), 4'000'000'000U);
    EXPECT_EQ(parse_size("64KiB"), 65536U);
    EXPECT_EQ(parse_size("1MiB"), 1U << 20U);
    EXPECT_EQ(parse_size("5GiB"), 5ULL << 30U);
    EXPECT_EQ(parse_size("18446744073709551615"), ~0ULL);
}

TEST(Units, WhatIsNoSizeIsRefused) {
    for (const char* text : {"", "0", "0KiB", "K", "KiB", "-1", "+1", "1k", "1KB", "1 K", " 1",
                             "1.5K", "1e3", "0x10", "1KiBx", "18446744073709551616",
                             "18446744073709551615K", "99999999999999999999999999GiB", "seven"}) {
        EXPECT_THROW(parse_size(text), ConfigError) << text;
    }
}

TEST(Units, SizesAreShownAsTheyAreRead) {
    EXPECT_EQ(format_size(65536), "64KiB");
    EXPECT_EQ(format_size(1500), "1500");
    EXPECT_EQ(format_size(1ULL << 30U), "1GiB");
    for (const std::uint64_t bytes : {1ULL, 1024ULL, 3000ULL, 1ULL << 22U, 5ULL << 40U}) {
        EXPECT_EQ(parse_size(format_size(bytes)), bytes);
    }
}

TEST(Units, NumbersKeepTheirBounds) {
    EXPECT_EQ(parse_number("7", 1, 7), 7U);
    for (const char* text : {"", "0", "8", "-1", "1.0", "x", "99999999999999999999999"}) {
        EXPECT_THROW(parse_number(text, 1, 7), ConfigError) << text;
    }
}

TEST(Units, FactorsAreAboveOne) {
    EXPECT_DOUBLE_EQ(parse_factor("2"), 2);
    EXPECT_DOUBLE_EQ(parse_factor("1.5"), 1.5);
    for (const char* text : {"", "1", "0.5", "-2", "inf", "nan", "1001", "2x"}) {
        EXPECT_THROW(parse_factor(text), ConfigError) << text;
    }
}

TEST(Units, SwitchesAreYesOrNo) {
    EXPECT_TRUE(parse_switch("yes"));
    EXPECT_TRUE(parse_switch("1"));
    EXPECT_FALSE(parse_switch("off"));
    EXPECT_THROW(parse_switch("maybe"), ConfigError);
    EXPECT_THROW(parse_switch(""), ConfigError);
}

TEST(Units, ModesLetTheOwnerIn) {
    EXPECT_EQ(parse_mode("0600"), 0600U);
    EXPECT_EQ(parse_mode("660"), 0660U);
    for (const char* text : {"", "0", "0400", "0700", "7777", "0x1ff", "-600", "rw"}) {
        EXPECT_THROW(parse_mode(text), ConfigError) << text;
    }
}

TEST(Units, WatermarksAreSlotsOrPercent) {
    EXPECT_EQ(parse_watermark("128").of(1000), 128U);
    EXPECT_EQ(parse_watermark("25%").of(1000), 250U);
    EXPECT_EQ(Watermark{}.of(1000), 100U);
    for (const char* text : {"", "%", "101%", "-1", "ten"}) {
        EXPECT_THROW(parse_watermark(text), ConfigError) << text;
    }
}

TEST(Units, ListsSplitAtAnySeparator) {
    EXPECT_THAT(parse_list(" root, nobody "), testing::ElementsAre("root", "nobody"));
    EXPECT_THAT(parse_list("a+b:c"), testing::ElementsAre("a", "b", "c"));
    EXPECT_TRUE(parse_list("  ").empty());
    EXPECT_THROW(parse_list("a,,b"), ConfigError);
    EXPECT_THROW(parse_list("a,"), ConfigError);
}

}  // namespace
}  // namespace mempoold
