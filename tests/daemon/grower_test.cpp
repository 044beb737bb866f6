// The growth policy: figures in, slots out.
#include "daemon/supervision/grower.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "mempool/shm/words/layout.hpp"

namespace mempoold {
namespace {

GrowthFigures low_on_slots() {
    GrowthFigures figures;
    figures.slots = 1000;
    figures.max_slots = 8000;
    figures.segments = 1;
    figures.free = 99;
    figures.watermark = 100;
    return figures;
}

TEST(Grower, BelowTheWatermarkItDoubles) { EXPECT_EQ(decide_growth(low_on_slots()), 1000U); }

TEST(Grower, AtTheWatermarkItStays) {
    GrowthFigures figures = low_on_slots();
    figures.free = 100;
    EXPECT_EQ(decide_growth(figures), 0U);
}

TEST(Grower, WhatAClientWantsIsGivenAboveTheWatermarkToo) {
    GrowthFigures figures = low_on_slots();
    figures.free = 500;
    figures.wanted = true;
    EXPECT_EQ(decide_growth(figures), 1000U);
}

TEST(Grower, GrowSlotsIsAFixedStep) {
    GrowthFigures figures = low_on_slots();
    figures.grow_slots = 64;
    EXPECT_EQ(decide_growth(figures), 64U);
}

TEST(Grower, AFactorBelowTwoRoundsUp) {
    GrowthFigures figures = low_on_slots();
    figures.slots = 3;
    figures.max_slots = 100;
    figures.grow_factor = 1.5;
    EXPECT_EQ(decide_growth(figures), 2U);
}

TEST(Grower, NeverBeyondMaxSlots) {
    GrowthFigures figures = low_on_slots();
    figures.max_slots = 1200;
    EXPECT_EQ(decide_growth(figures), 200U);
    figures.max_slots = 1000;
    figures.wanted = true;
    EXPECT_EQ(decide_growth(figures), 0U);
}

TEST(Grower, AHugeFactorStaysInBounds) {
    GrowthFigures figures = low_on_slots();
    figures.slots = 200'000'000;
    figures.max_slots = 250'000'000;
    figures.grow_factor = 1000;
    figures.wanted = true;
    EXPECT_EQ(decide_growth(figures), 50'000'000U);
}

TEST(Grower, SmallStepsAreRaisedSoThatMaxSlotsIsReached) {
    GrowthFigures figures = low_on_slots();
    figures.slots = 16;
    figures.max_slots = 100'000;
    figures.grow_slots = 1;
    figures.wanted = true;
    while (const std::uint32_t more = decide_growth(figures)) {
        figures.slots += more;
        ++figures.segments;
        ASSERT_LE(figures.segments, mempool::shm::kMaxSegments);
    }
    EXPECT_EQ(figures.slots, figures.max_slots);
}

TEST(Grower, WithAllSegmentsUsedItStays) {
    GrowthFigures figures = low_on_slots();
    figures.segments = mempool::shm::kMaxSegments;
    EXPECT_EQ(decide_growth(figures), 0U);
}

TEST(Grower, BackOffDoublesUpToAMinute) {
    EXPECT_EQ(growth_backoff_ms(1), 1000U);
    EXPECT_EQ(growth_backoff_ms(2), 2000U);
    EXPECT_EQ(growth_backoff_ms(6), 32000U);
    EXPECT_EQ(growth_backoff_ms(7), 60000U);
    EXPECT_EQ(growth_backoff_ms(4'000'000'000U), 60000U);
}

}  // namespace
}  // namespace mempoold
