// mempoolctl grow: adds slots to a pool.
#include <fmt/format.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <mempool/inspect.hpp>
#include <string>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

struct Growth {
    std::uint64_t added = 0;
    std::string problem;  ///< why nothing was added
};

Growth grow(const Invocation& invocation, const std::string& pool, std::uint64_t wanted) {
    mempool::Admin admin = connect_to_daemon(invocation.attach);
    try {
        const std::uint64_t added = admin.grow(pool, wanted);
        return {added, added == 0 ? "the daemon added nothing" : ""};
    } catch (const mempool::Error& error) {
        // Asked and answered: the pool is as big as it may be, or the system has no memory for it.
        if (error.code().value() == ENOSPC) {
            return {0, error.reason()};
        }
        throw;
    }
}

Exit run_grow(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments[0];
    const std::uint64_t wanted = parse_number("SLOTS", invocation.arguments[1], 1,
                                              std::numeric_limits<std::uint32_t>::max());
    const Growth growth = grow(invocation, pool, wanted);
    if (invocation.json) {
        output.json({{"pool", pool},
                     {"requested", wanted},
                     {"added", growth.added},
                     {"problem", growth.problem.empty() ? Json() : Json(growth.problem)}});
    } else if (growth.added == 0) {
        print_note(growth.problem);
    } else {
        output.text(fmt::format("{}: {} added\n", pool, counted(growth.added, "slot")));
    }
    return growth.added == 0 ? Exit::kBadAnswer : Exit::kOk;
}

}  // namespace

const Command kGrow{
    .name = "grow",
    .arguments = "POOL SLOTS",
    .summary = "Add slots to a pool, at most up to its max_slots",
    .details =
        "The slots come as one new segment; clients see them without being told. Needs the\n"
        "daemon, and root, the daemon's user or its admin_group. Ends with 1 if none could\n"
        "be added.",
    .least_arguments = 2,
    .most_arguments = 2,
    .add_options = nullptr,
    .run = run_grow,
};

}  // namespace mempoolctl
