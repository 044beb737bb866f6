// mempool_siege: the test, and the long form of it; see --help.
#include <gtest/gtest.h>
#include <unistd.h>

#include "siege/options.hpp"
#include "siege/siege.hpp"

namespace mempool_test {
namespace {

SiegeOptions siege_given;

TEST(Siege, TheOtherPoolsClientsNoticeNothing) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root: the attackers are users of their own";
    }
    Siege siege(siege_given);
    siege.run();
}

}  // namespace
}  // namespace mempool_test

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const auto options = mempool_test::parse_siege_options({argv + 1, argv + argc});
    if (!options) {
        return 2;
    }
    mempool_test::siege_given = *options;
    return RUN_ALL_TESTS();
}
