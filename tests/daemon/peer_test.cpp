// Who a peer is, where that depends on a user namespace.
#include "daemon/control/peer.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "daemon/control/requests.hpp"

namespace mempoold {
namespace {

TEST(Peer, OnlyTheFullMapHasANumberForEverybody) {
    EXPECT_TRUE(maps_everybody("         0          0 4294967295\n"));
    EXPECT_FALSE(maps_everybody("         0       1000          1\n"));
    EXPECT_FALSE(maps_everybody("0 0 1000\n1000 100000 65536\n"));
    EXPECT_FALSE(maps_everybody("1 1 4294967295\n"));
    EXPECT_FALSE(maps_everybody(""));
}

TEST(RequestBudget, OneUsersRequestsAreBoundedAndNobodyElses) {
    RequestBudget budget;
    const RequestBudget::Clock::time_point now{};
    int allowed = 0;
    while (allowed < 100'000 && budget.allow(1000, now)) {
        ++allowed;
    }
    EXPECT_EQ(allowed, 500);
    EXPECT_TRUE(budget.allow(1001, now));
    EXPECT_TRUE(budget.allow(1000, now + std::chrono::milliseconds{1}));
    EXPECT_TRUE(budget.allow(1000, now + std::chrono::milliseconds{1}));
    EXPECT_FALSE(budget.allow(1000, now + std::chrono::milliseconds{1}));
}

TEST(Peer, WhoHasNoNumberMatchesNoEntry) {
    const Peer stranger{1, kNoUser, kNoGroup, {}};
    Access access;
    access.users = {0, 65534};
    access.groups = {0, 65534};
    EXPECT_FALSE(is_trusted(stranger));
    EXPECT_FALSE(may_attach(stranger, access));
    EXPECT_FALSE(is_admin(stranger, 65534));
    access.everybody = true;
    EXPECT_TRUE(may_attach(stranger, access));
}

}  // namespace
}  // namespace mempoold
