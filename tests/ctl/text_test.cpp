// Figures as people read them.
#include "ctl/text.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "ctl/command.hpp"

namespace mempoolctl {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

TEST(Text, BytesAreExactOrToOneDecimal) {
    EXPECT_EQ(format_bytes(0), "0B");
    EXPECT_EQ(format_bytes(1023), "1023B");
    EXPECT_EQ(format_bytes(1024), "1KiB");
    EXPECT_EQ(format_bytes(65536), "64KiB");
    EXPECT_EQ(format_bytes(1536U << 10U), "1.5MiB");
    EXPECT_EQ(format_bytes(std::uint64_t{3} << 40U), "3TiB");
    EXPECT_EQ(format_bytes(kMost), "16.0EiB");
}

TEST(Text, DurationsShowTwoUnits) {
    EXPECT_EQ(format_duration(0), "0s");
    EXPECT_EQ(format_duration(59), "59s");
    EXPECT_EQ(format_duration(200), "3m20s");
    EXPECT_EQ(format_duration(5 * 3600 + 7 * 60 + 1), "5h07m");
    EXPECT_EQ(format_duration(183600), "2d03h");
}

TEST(Text, TimesSurviveAnyNumber) {
    EXPECT_EQ(format_time(0), "-");
    EXPECT_FALSE(format_time(kMost).empty());
    EXPECT_EQ(age_of(kMost), 0);
}

TEST(Text, PrintableHidesControlBytes) { EXPECT_EQ(printable("a\x1b[2J\xff z"), "a?[2J? z"); }

TEST(Text, NumbersAreParsedWhole) {
    EXPECT_EQ(parse_number("N", "0", 0, 9), 0);
    EXPECT_EQ(parse_number("N", "18446744073709551615", 1, kMost), kMost);
    for (const char* text :
         {"", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "10"}) {
        EXPECT_THROW(static_cast<void>(parse_number("N", text, 1, 9)), UsageError) << text;
    }
}

}  // namespace
}  // namespace mempoolctl
