// What the command line is refused for, and help. Needs no daemon.
#include <gmock/gmock.h>

#include "run_ctl.hpp"

namespace mempool_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(CtlUsage, NonsenseIsRefused) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{},
                                               {"frobnicate"},
                                               {"status", "a", "b"},
                                               {"list", "a"},
                                               {"clients"},
                                               {"segments"},
                                               {"slots"},
                                               {"audit"},
                                               {"grow", "a"},
                                               {"grow", "a", "0"},
                                               {"grow", "a", "-1"},
                                               {"grow", "a", "many"},
                                               {"grow", "a", "1.5"},
                                               {"grow", "a", "99999999999999999999"},
                                               {"reclaim"},
                                               {"reclaim", "a", "--detached-older-than"},
                                               {"reclaim", "a", "--detached-older-than", "soon"},
                                               {"slots", "a", "--state", "lost"},
                                               {"slots", "a", "--client", "x"},
                                               {"slots", "a", "--limit", "0"},
                                               {"status", "a", "--state", "held"},
                                               {"status", "--jso"},
                                               {"status", "--socket"},
                                               {"status", "not.a.name"},
                                               {"help", "frobnicate"}}) {
        const Finished finished = run_ctl(arguments);
        EXPECT_EQ(finished.status, 2) << ::testing::PrintToString(arguments) << finished.err;
        EXPECT_THAT(finished.err, StartsWith("mempoolctl: "))
            << ::testing::PrintToString(arguments);
        EXPECT_EQ(finished.out, "") << ::testing::PrintToString(arguments);
    }
}

TEST(CtlUsage, HelpExplainsEachCommand) {
    const Finished all = run_ctl({"help"});
    EXPECT_EQ(all.status, 0);
    EXPECT_EQ(run_ctl({"--help"}).out, all.out);
    for (const char* command :
         {"list", "status", "clients", "segments", "slots", "audit", "grow", "reclaim"}) {
        EXPECT_THAT(all.out, HasSubstr(std::string("\n  ") + command));
        const Finished one = run_ctl({"help", command});
        EXPECT_EQ(one.status, 0) << command;
        EXPECT_THAT(one.out, HasSubstr(std::string("Usage: mempoolctl ") + command)) << command;
        EXPECT_EQ(run_ctl({command, "--help"}).out, one.out) << command;
    }
}

TEST(CtlUsage, VersionIsOneLine) {
    const Finished finished = run_ctl({"--version"});
    EXPECT_EQ(finished.status, 0);
    EXPECT_THAT(finished.out, StartsWith("mempoolctl "));
    EXPECT_EQ(std::count(finished.out.begin(), finished.out.end(), '\n'), 1);
}

TEST(CtlUsage, NoDaemonAndNoSocketIsNotFound) {
    const Finished finished = run_ctl({"--socket", "/nonexistent/sock", "grow", "a", "1"});
    EXPECT_EQ(finished.status, 3);
    EXPECT_THAT(finished.err, HasSubstr("/nonexistent/sock"));
}

}  // namespace
}  // namespace mempool_test
