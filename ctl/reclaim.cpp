// mempoolctl reclaim: takes back, now, what nobody is going to return.
#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <chrono>
#include <mempool/inspect.hpp>
#include <optional>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

namespace po = boost::program_options;

constexpr std::uint64_t kMostSeconds = 1'000'000'000;

Exit run_reclaim(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments.front();
    std::optional<std::chrono::seconds> age;
    if (invocation.options.count("detached-older-than") != 0) {
        age = std::chrono::seconds(parse_number(
            "--detached-older-than", invocation.options["detached-older-than"].as<std::string>(), 0,
            kMostSeconds));
    }
    const mempool::ReclaimReport report = connect_to_daemon(invocation.attach).reclaim(pool, age);
    if (invocation.json) {
        output.json({{"pool", pool},
                     {"clients", report.clients},
                     {"slots", report.slots},
                     {"detached", report.detached}});
    } else {
        output.text(fmt::format("{}: {} from {}, {} freed\n", pool, counted(report.slots, "slot"),
                                counted(report.clients, "dead client"),
                                counted(report.detached, "detached slot")));
    }
    return Exit::kOk;
}

void add_reclaim_options(po::options_description& options) {
    options.add_options()                                                         //
        ("detached-older-than", po::value<std::string>()->value_name("SECONDS"),  //
         "also free slots that have been detached for longer than this");
}

}  // namespace

const Command kReclaim{
    .name = "reclaim",
    .arguments = "POOL",
    .summary = "Sweep dead clients now, and detached slots by age",
    .details =
        "The daemon sees deaths by itself; this looks again at every client. Needs the\n"
        "daemon, and root, the daemon's user or its admin_group. Free a detached slot only\n"
        "if nobody will adopt it any more: its handle goes stale.",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = add_reclaim_options,
    .run = run_reclaim,
};

}  // namespace mempoolctl
