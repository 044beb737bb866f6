// Where the answer goes: files, terminals, readers that went away, full disks.
#include <gmock/gmock.h>

#include "run_ctl.hpp"

namespace mempool_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CtlOutput : public CtlTest {};

TEST_F(CtlOutput, ColoursAreForTerminalsOnly) {
    EXPECT_THAT(ctl({"list"}).out, Not(HasSubstr("\x1b")));
    EXPECT_THAT(ctl({"list"}, {.out = Stdout::kTerminal}).out, HasSubstr("\x1b[32myes\x1b[0m"));
}

TEST_F(CtlOutput, ColoursCanBeRefused) {
    EXPECT_THAT(ctl({"list", "--no-color"}, {.out = Stdout::kTerminal}).out,
                Not(HasSubstr("\x1b")));
    EXPECT_THAT(ctl({"list"}, {.out = Stdout::kTerminal, .environment = {"NO_COLOR=1"}}).out,
                Not(HasSubstr("\x1b")));
    EXPECT_THAT(ctl({"list", "--json"}, {.out = Stdout::kTerminal}).out, Not(HasSubstr("\x1b")));
}

TEST_F(CtlOutput, AReaderThatWentAwayIsNoError) {
    for (const char* format : {"--no-color", "--json"}) {
        const Finished finished = ctl({"slots", pool_, format}, {.out = Stdout::kClosedPipe});
        EXPECT_EQ(finished.status, 0) << format;
        EXPECT_EQ(finished.err, "") << format;
    }
}

TEST_F(CtlOutput, AFullDiskIsAFailure) {
    const Finished finished = ctl({"status", pool_}, {.out = Stdout::kFullDevice});
    EXPECT_EQ(finished.status, 5);
    EXPECT_THAT(finished.err, HasSubstr("cannot write the answer"));
}

TEST_F(CtlOutput, TablesHaveNoTrailingBlanks) {
    for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
             {"list"}, {"status"}, {"clients", pool_}, {"segments", pool_}, {"slots", pool_}}) {
        EXPECT_THAT(ctl(arguments).out, Not(HasSubstr(" \n"))) << arguments[0];
    }
}

TEST_F(CtlOutput, TheEnvironmentNamesTheSocket) {
    const Finished finished =
        run_ctl({"reclaim", pool_}, {.environment = {"MEMPOOL_SOCKET=" + daemon_.socket_path()}});
    EXPECT_EQ(finished.status, 0) << finished.err;
}

TEST_F(CtlOutput, JsonMayStandAnywhere) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"--json", "status", pool_},
                                               {"status", "--json", pool_},
                                               {"status", pool_, "--json"}}) {
        EXPECT_TRUE(Json::accept(ctl(arguments).out));
    }
}

}  // namespace
}  // namespace mempool_test
