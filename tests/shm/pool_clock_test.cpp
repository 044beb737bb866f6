// The pool's clock: it goes on by the time that has passed, and by nothing else.
#include "mempool/shm/words/pool_clock.hpp"

#include <gtest/gtest.h>

#include <cstdint>

#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kBoot = 500 * kSecond;
constexpr std::uint32_t kHere = 4026531834;
constexpr std::uint32_t kElsewhere = 4026532000;

class PoolClockTest : public testing::Test {
protected:
    test::TestPool test_;  // made at 1000
    Live& live_ = test_.pool().live();
};

TEST_F(PoolClockTest, GoesOnByWholeSecondsAndLosesNoFraction) {
    PoolClock clock(live_);
    clock.start(kBoot, kHere, 5'000'000);
    EXPECT_EQ(clock.now(), 1000U);
    for (int k = 1; k <= 10; ++k) {
        clock.tick(kBoot + static_cast<std::uint64_t>(k) * kSecond * 7 / 10);
    }
    EXPECT_EQ(clock.now(), 1007U);
    EXPECT_EQ(live_.now.load(), 1007U);
}

TEST_F(PoolClockTest, OfAPoolWithoutATimeBeginsWithTheDate) {
    live_.now.store(0);
    PoolClock clock(live_);
    clock.start(kBoot, kHere, 5'000'000);
    EXPECT_EQ(live_.now.load(), 5'000'000U);
}

TEST_F(PoolClockTest, NextDaemonAddsThePauseWhateverTheDateIs) {
    PoolClock former(live_);
    former.start(kBoot, kHere, 5'000'000);
    PoolClock next(live_);
    next.start(kBoot + 30 * kSecond, kHere, 7);
    EXPECT_EQ(next.now(), 1030U);
}

TEST_F(PoolClockTest, NextDaemonInAnotherTimeNamespaceGoesOnFromWhereItStood) {
    PoolClock former(live_);
    former.start(kBoot, kHere, 5'000'000);
    former.tick(kBoot + 5 * kSecond);
    PoolClock next(live_);
    next.start(kBoot * 1000, kElsewhere, 5'000'000);
    EXPECT_EQ(next.now(), 1005U);
    next.tick(kBoot * 1000 + kSecond);
    EXPECT_EQ(next.now(), 1006U);
}

TEST_F(PoolClockTest, NeverGoesBackNorFarAheadWhateverStandsThere) {
    for (const std::uint64_t written : {kBoot + 100 * kSecond, ~std::uint64_t{0}}) {
        live_.ticked_at.store(written);
        live_.ticked_in.store(kHere);
        PoolClock clock(live_);
        clock.start(kBoot, kHere, 5'000'000);
        EXPECT_EQ(clock.now(), 1000U);
        EXPECT_EQ(clock.tick(kBoot - kSecond), 1000U);
    }
}

TEST_F(PoolClockTest, AgesAreReckonedByIt) {
    live_.now.store(2000);
    EXPECT_EQ(age_of_stamp(live_, 1990), 10U);
    EXPECT_EQ(age_of_stamp(live_, 2000), 0U);
    EXPECT_EQ(age_of_stamp(live_, 2001), 0U);
}

}  // namespace
}  // namespace mempool::shm
