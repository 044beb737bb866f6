// mempoolctl reclaim: takes back, now, what nobody is going to return; and ends a client.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <limits>
#include <mempool/inspect.hpp>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

namespace po = boost::program_options;
using mempool::ClientInfo;

constexpr std::uint64_t kMostSeconds = 1'000'000'000;

ClientInfo find_client(const Invocation& invocation, const std::string& pool, std::uint64_t id) {
    const std::vector<ClientInfo> all = mempool::Inspector::open(pool, invocation.attach).clients();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [id](const ClientInfo& client) { return client.id == id; });
    if (found == all.end()) {
        throw mempool::Error(ESRCH, std::generic_category(),
                             fmt::format("no client {} is attached to '{}': mempoolctl clients {} "
                                         "lists them",
                                         id, pool, pool));
    }
    return *found;
}

std::string describe(const ClientInfo& client) {
    return fmt::format("client {} (pid {}, user {}, {}, {}) holds {} and has {} cached", client.id,
                       client.pid, printable(user_name(client.uid)), printable(client.command),
                       client.state, counted(client.held, "slot"), client.cached);
}

// What the operator is about to do, in a sentence each.
std::string consequence(bool kill, bool force) {
    if (kill) {
        return "Its process is killed, and all that it had returns to the pool.";
    }
    if (force) {
        return "All its calls are refused from now on, and ALL its slots go to others AT ONCE, "
               "while\n"
               "its process may still write into them: two programs may then write into one slot.\n"
               "--kill instead is safe.";
    }
    return "All its calls are refused from now on, and its idle caches go to others. The slots in "
           "its\n"
           "hands stay until its process has ended; --kill ends it.";
}

// Asks on the terminal; without one, only --yes will do.
void confirm(const std::string& pool, const ClientInfo& client, bool kill, bool force) {
    fmt::print(stderr, "{}: {}\n{}\n", pool, describe(client), consequence(kill, force));
    if (::isatty(STDIN_FILENO) == 0) {
        throw UsageError("nobody is there to be asked: repeat it with --yes");
    }
    fmt::print(stderr, "Go on? [y/N] ");
    std::string answer;
    if (!std::getline(std::cin, answer) || (answer != "y" && answer != "Y" && answer != "yes")) {
        throw mempool::Error(ECANCELED, std::generic_category(), "nothing was done");
    }
}

Exit end_client(const Invocation& invocation, Output& output, const std::string& pool) {
    const po::variables_map& options = invocation.options;
    const bool kill = options["kill"].as<bool>();
    const bool force = options["force"].as<bool>();
    const ClientInfo client =
        find_client(invocation, pool,
                    parse_number("--client", options["client"].as<std::string>(), 1,
                                 std::numeric_limits<std::uint32_t>::max()));
    if (!options["yes"].as<bool>()) {
        confirm(pool, client, kill, force);
    }
    mempool::Admin admin = connect_to_daemon(invocation.attach);
    mempool::EndReport done;
    if (kill) {
        admin.kill_client(pool, client.id, client.epoch);
        done.slots = client.held;
    } else {
        done = admin.end_client(pool, client.id, client.epoch, force);
    }
    if (invocation.json) {
        output.json({{"pool", pool},
                     {"client", client.id},
                     {"killed", kill},
                     {"slots", done.slots},
                     {"magazines", done.magazines},
                     {"left", done.left},
                     {"alive", done.alive}});
    } else if (kill) {
        output.text(fmt::format(
            "{}: the process of client {} was killed; mempoold takes back what it had\n", pool,
            client.id));
    } else {
        output.text(fmt::format("{}: client {} was ended; {} and {} taken back, {} left to it\n",
                                pool, client.id, counted(done.slots, "slot"),
                                counted(done.magazines, "magazine"), counted(done.left, "slot")));
    }
    return Exit::kOk;
}

Exit sweep(const Invocation& invocation, Output& output, const std::string& pool) {
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

Exit run_reclaim(const Invocation& invocation, Output& output) {
    const po::variables_map& options = invocation.options;
    const std::string& pool = invocation.arguments.front();
    const bool one = options.count("client") != 0;
    if (one && options.count("detached-older-than") != 0) {
        throw UsageError("--client and --detached-older-than are two commands: give one of them");
    }
    for (const char* option : {"kill", "force", "yes"}) {
        if (!one && options[option].as<bool>()) {
            throw UsageError(fmt::format("--{} needs --client", option));
        }
    }
    if (options["kill"].as<bool>() && options["force"].as<bool>()) {
        throw UsageError("--kill and --force contradict each other: give one of them");
    }
    return one ? end_client(invocation, output, pool) : sweep(invocation, output, pool);
}

void add_reclaim_options(po::options_description& options) {
    options.add_options()                                                                    //
        ("detached-older-than", po::value<std::string>()->value_name("SECONDS"),             //
         "also free slots that have been detached for longer than this")                     //
        ("client", po::value<std::string>()->value_name("ID"),                               //
         "end this client: all its calls are refused, its idle caches go to others")         //
        ("kill", po::bool_switch(), "kill its process: the safe way to get all slots back")  //
        ("force", po::bool_switch(),                                                         //
         "take its slots while its process may still write into them")                       //
        ("yes", po::bool_switch(), "don't ask");
}

}  // namespace

const Command kReclaim{
    .name = "reclaim",
    .arguments = "POOL",
    .summary = "Sweep dead clients now, and detached slots by age; end a client",
    .details =
        "The daemon sees deaths by itself; this looks again at every client. Free a detached\n"
        "slot only if nobody will adopt it any more: its handle goes stale. --client ends one\n"
        "that the daemon cannot see, or that you want to be rid of: it says what will happen,\n"
        "and asks. Needs the daemon, and root, the daemon's user or its admin_group; --kill\n"
        "needs your own right to kill that process.",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = add_reclaim_options,
    .run = run_reclaim,
};

}  // namespace mempoolctl
