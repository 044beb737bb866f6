// The command line as an Invocation.
#include "ctl/command_line.hpp"

#include <gtest/gtest.h>

namespace mempoolctl {
namespace {

TEST(CommandLine, FindsTheCommandBehindOptions) {
    const CommandLine line = parse_command_line({"--socket", "status", "--json", "slots", "p"});
    EXPECT_EQ(line.command, &kSlots);
    EXPECT_EQ(line.invocation.attach.socket, "status");
    EXPECT_TRUE(line.invocation.json);
    EXPECT_EQ(line.invocation.arguments, std::vector<std::string>{"p"});
}

TEST(CommandLine, OptionsMayStandAnywhere) {
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{"--json", "--socket=s", "status", "p"},
                                               {"status", "--json", "p", "--socket", "s"},
                                               {"status", "p", "--socket=s", "--json"}}) {
        const CommandLine line = parse_command_line(words);
        EXPECT_EQ(line.command, &kStatus);
        EXPECT_TRUE(line.invocation.json);
        EXPECT_EQ(line.invocation.attach.socket, "s");
        EXPECT_EQ(line.invocation.arguments, std::vector<std::string>{"p"});
    }
}

TEST(CommandLine, APoolMayBeginWithADashAfterTwo) {
    const CommandLine line = parse_command_line({"status", "--json", "--", "-p"});
    EXPECT_EQ(line.invocation.arguments, std::vector<std::string>{"-p"});
    EXPECT_TRUE(line.invocation.json);
}

TEST(CommandLine, HelpNamesACommandOrNone) {
    EXPECT_EQ(parse_command_line({"help"}).command, nullptr);
    EXPECT_TRUE(parse_command_line({"help"}).help);
    EXPECT_EQ(parse_command_line({"help", "grow"}).command, &kGrow);
    EXPECT_EQ(parse_command_line({"grow", "-h"}).command, &kGrow);
    EXPECT_TRUE(parse_command_line({"grow", "-h"}).help);
}

TEST(CommandLine, AnOptionOfAnotherCommandIsRefused) {
    EXPECT_NO_THROW(static_cast<void>(parse_command_line({"slots", "p", "--limit", "1"})));
    EXPECT_THROW(static_cast<void>(parse_command_line({"audit", "p", "--limit", "1"})), UsageError);
}

TEST(CommandLine, WithoutACommandItIsRefused) {
    EXPECT_THROW(static_cast<void>(parse_command_line({})), UsageError);
    EXPECT_THROW(static_cast<void>(parse_command_line({"--json"})), UsageError);
    EXPECT_THROW(static_cast<void>(parse_command_line({""})), UsageError);
}

}  // namespace
}  // namespace mempoolctl
