// Who is over the quota, as the daemon sees it: also a client that doesn't keep it.
#include <gmock/gmock.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/supervision/quota_watch.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::chrono::seconds kSecond{1};
constexpr std::chrono::minutes kMinute{1};

TEST(QuotaWatch, ReportsWhoeverHoldsMore) {
    QuotaWatch watch;
    EXPECT_THAT(watch.look({99, 5, 6, 7}, 5, {}), ElementsAre(2, 3));
}

TEST(QuotaWatch, ReportsNobodyWithoutAQuota) {
    QuotaWatch watch;
    EXPECT_THAT(watch.look({99, 5, 6, 7}, 0, {}), IsEmpty());
}

TEST(QuotaWatch, SaysItAgainAfterAMinuteOnly) {
    QuotaWatch watch;
    const QuotaWatch::Clock::time_point start{};
    EXPECT_THAT(watch.look({0, 6}, 5, start), ElementsAre(1));
    EXPECT_THAT(watch.look({0, 6}, 5, start + kSecond), IsEmpty());
    EXPECT_THAT(watch.look({0, 4}, 5, start + 2 * kSecond), IsEmpty());
    EXPECT_THAT(watch.look({0, 6}, 5, start + 3 * kSecond), IsEmpty()) << "up and down";
    EXPECT_THAT(watch.look({0, 6}, 5, start + kMinute), ElementsAre(1));
}

TEST(QuotaWatch, ForgetsWhoKeepsItForAMinute) {
    QuotaWatch watch;
    const QuotaWatch::Clock::time_point start{};
    EXPECT_THAT(watch.look({0, 6}, 5, start), ElementsAre(1));
    EXPECT_THAT(watch.look({0, 4}, 5, start + kMinute), IsEmpty());
    EXPECT_THAT(watch.look({0, 6}, 5, start + kMinute + kSecond), ElementsAre(1));
}

TEST(QuotaTest, AClientThatDoesNotKeepItIsLogged) {
    const std::string pool = mempool_test::unique_pool("quota");
    mempool_test::DaemonProcess daemon;
    daemon.start({"--pool", pool + ":64x64,quota=10"});
    PoolClient modest(daemon.socket_path(), pool);
    PoolClient greedy(daemon.socket_path(), pool);
    EXPECT_EQ(modest.view().live().quota.load(), 10U);
    EXPECT_EQ(modest.get(10), 10U);
    EXPECT_EQ(greedy.get(11), 11U);  // a lane at work by itself, without the library
    daemon.wait_for_log("pool '" + pool + "': client " + std::to_string(greedy.id()) + " (pid ");
    daemon.wait_for_log("holds 11 slots, more than the quota of 10");
    EXPECT_THAT(daemon.log(), testing::Not(HasSubstr("holds 10 slots")));
}

}  // namespace
}  // namespace mempoold
