// mempoolctl: looks at pools and, through the daemon, changes them.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <mempool/error.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "command.hpp"
#include "command_line.hpp"
#include "failure.hpp"
#include "help.hpp"
#include "output.hpp"
#include "pools.hpp"

namespace mempoolctl {
namespace {

Exit run(const std::vector<std::string>& arguments, Output& output) {
    try {
        const CommandLine line = parse_command_line(arguments);
        if (line.no_colour) {
            output.no_colour();
        }
        if (line.help) {
            output.text(help_text(line.command));
            return Exit::kOk;
        }
        if (line.version) {
            output.text("mempoolctl " MEMPOOL_VERSION "\n");
            return Exit::kOk;
        }
        return line.command->run(line.invocation, output);
    } catch (const UsageError& error) {
        print_note(error.what());
        return Exit::kUsage;
    } catch (const mempool::Error& error) {
        print_note(error.what());
        return exit_of(error);
    } catch (const std::exception& error) {
        print_note(error.what());
        return Exit::kFailure;
    }
}

int run_and_flush(const std::vector<std::string>& arguments) {
    Output output(stdout, wants_colour(stdout));
    const Exit exit = run(arguments, output);
    const int error = output.finish();
    if (error != 0 && error != EPIPE) {
        print_note("cannot write the answer: " + std::generic_category().message(error));
        return static_cast<int>(Exit::kFailure);
    }
    return static_cast<int>(exit);
}

}  // namespace
}  // namespace mempoolctl

int main(int argc, char** argv) {
    // A reader that went away shows as EPIPE instead, and the exit code stays the answer's.
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return mempoolctl::run_and_flush(
            std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
    } catch (const std::exception& error) {
        std::fputs(error.what(), stderr);
        return static_cast<int>(mempoolctl::Exit::kFailure);
    }
}
