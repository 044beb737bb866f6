// mempoolctl list: which pools there are.
#include <fmt/format.h>

#include <mempool/inspect.hpp>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

Exit run_list(const Invocation& invocation, Output& output) {
    const DaemonAnswer daemon = ask_daemon(invocation.attach);
    const std::vector<mempool::FoundPool> pools =
        mempool::find_pools(invocation.attach, look_at(daemon));
    const std::vector<mempool::SetAside> aside = mempool::find_set_aside(invocation.attach);
    if (invocation.json) {
        Json list = Json::array();
        for (const mempool::FoundPool& pool : pools) {
            list.push_back(
                {{"pool", pool.name}, {"served", pool.served}, {"present", pool.present}});
        }
        Json others = Json::array();
        for (const mempool::SetAside& object : aside) {
            others.push_back(
                {{"object", printable(object.object)}, {"reason", printable(object.reason)}});
        }
        output.json({{"daemon", daemon.version.empty() ? Json() : Json(daemon.version)},
                     {"pools", std::move(list)},
                     {"aside", std::move(others)}});
        return Exit::kOk;
    }
    if (daemon.version.empty()) {
        print_note(daemon.problem);
    }
    for (const mempool::SetAside& object : aside) {
        print_note(
            fmt::format("/dev/shm{} was set aside: {}. Remove it once nobody needs what is in it",
                        printable(object.object), printable(object.reason)));
    }
    if (pools.empty()) {
        print_note("there are no pools");
        return Exit::kOk;
    }
    Table table({{"POOL"}, {"SERVED"}, {"IN /dev/shm"}});
    for (const mempool::FoundPool& pool : pools) {
        table.add({{pool.name},
                   {pool.served ? "yes" : "no", pool.served ? Colour::kGreen : Colour::kYellow},
                   {pool.present ? "yes" : "no"}});
    }
    output.text(table.render(output.colour()));
    return Exit::kOk;
}

}  // namespace

const Command kList{
    .name = "list",
    .arguments = "",
    .summary = "List the pools",
    .details =
        "Shows the pools that the daemon serves, and those that the index of its runtime\n"
        "directory knows. IN /dev/shm: whether the pool's object has its name there.\n"
        "Names objects that could not be served and were set aside, and why.",
    .least_arguments = 0,
    .most_arguments = 0,
    .add_options = nullptr,
    .run = run_list,
};

}  // namespace mempoolctl
