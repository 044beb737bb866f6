#include "help.hpp"

#include <fmt/format.h>

#include <iterator>
#include <sstream>

#include "command_line.hpp"

namespace mempoolctl {
namespace {

std::string describe(const boost::program_options::options_description& options) {
    std::ostringstream text;
    text << options;
    return text.str();
}

std::string overview() {
    std::string text =
        "Looks at the pools of mempoold, and changes them where asked.\n\n"
        "Usage: mempoolctl [OPTION]... COMMAND [ARGUMENT]...\n\nCommands:\n";
    for (const Command* command : kCommands) {
        fmt::format_to(std::back_inserter(text), "  {:<20}{}\n",
                       fmt::format("{} {}", command->name, command->arguments), command->summary);
    }
    fmt::format_to(std::back_inserter(text), "  {:<20}{}\n\n{}\n", "help [COMMAND]",
                   "explain a command and its options", describe(common_options()));
    text +=
        "Ends with 0 fine, 1 the answer is bad, 2 wrong usage, 3 no such pool or no daemon,\n"
        "4 not allowed, 5 anything else. See mempoolctl(1).\n";
    return text;
}

}  // namespace

std::string help_text(const Command* command) {
    if (command == nullptr) {
        return overview();
    }
    std::string text =
        fmt::format("{}.\n\nUsage: mempoolctl {} {}{}[OPTION]...\n\n", command->summary,
                    command->name, command->arguments, command->arguments.empty() ? "" : " ");
    if (!command->details.empty()) {
        fmt::format_to(std::back_inserter(text), "{}\n\n", command->details);
    }
    if (command->add_options != nullptr) {
        boost::program_options::options_description own("Options");
        command->add_options(own);
        text += describe(own) + "\n";
    }
    return text + describe(common_options());
}

}  // namespace mempoolctl
