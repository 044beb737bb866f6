// From argv to a command and its Invocation.
//
// Called once by main. Options may stand anywhere; those of all commands are known to all.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"

namespace mempoolctl {

/// What main is asked to do. With `help`, `command` is what to explain: all if nullptr.
struct CommandLine {
    const Command* command = nullptr;
    bool help = false;
    bool version = false;
    bool no_colour = false;
    Invocation invocation;
};

/// Throws UsageError.
[[nodiscard]] CommandLine parse_command_line(const std::vector<std::string>& arguments);

/// The options that every command has.
[[nodiscard]] boost::program_options::options_description common_options();

}  // namespace mempoolctl
