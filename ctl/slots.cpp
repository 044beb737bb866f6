// mempoolctl slots: where each slot is, since when, and what for.
//
// A pool may have millions: lines are printed as they are read, in columns of fixed width.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/program_options.hpp>
#include <cstdint>
#include <limits>
#include <mempool/inspect.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

namespace po = boost::program_options;
using mempool::SlotInfo;

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();
constexpr std::array<std::string_view, 6> kStates{"free",  "cached",   "held",
                                                  "shown", "detached", "unknown"};

/// Whether a client holds it, shown or not: what status counts as held.
bool is_held(const SlotInfo& slot) { return slot.state == "held" || slot.state == "shown"; }

struct Filter {
    std::string state;  ///< empty: any
    std::optional<std::uint64_t> client;
    std::uint64_t limit = kNoLimit;

    [[nodiscard]] bool accepts(const SlotInfo& slot) const {
        return (state.empty() || (state == "held" ? is_held(slot) : slot.state == state)) &&
               (!client || (is_held(slot) && slot.holder == *client));
    }
};

Filter filter_of(const po::variables_map& options) {
    Filter filter;
    if (options.count("state") != 0) {
        filter.state = options["state"].as<std::string>();
        if (std::find(kStates.begin(), kStates.end(), filter.state) == kStates.end()) {
            throw UsageError(fmt::format("--state must be one of {}, not '{}'",
                                         fmt::join(kStates, ", "), printable(filter.state)));
        }
    }
    if (options.count("client") != 0) {
        filter.client = parse_number("--client", options["client"].as<std::string>(), 0,
                                     std::numeric_limits<std::uint32_t>::max());
    }
    if (options.count("limit") != 0) {
        filter.limit = parse_number("--limit", options["limit"].as<std::string>(), 1, kNoLimit);
    }
    return filter;
}

bool in_use(const SlotInfo& slot) { return is_held(slot) || slot.state == "detached"; }

/// Whether a client holds it, or is known to have detached it.
bool has_client(const SlotInfo& slot) {
    return is_held(slot) || (slot.state == "detached" && slot.holder != 0);
}

bool pid_is_known(const SlotInfo& slot) { return is_held(slot) || slot.pid != 0; }

std::string pid_text(const SlotInfo& slot) {
    if (!has_client(slot)) {
        return "-";
    }
    return pid_is_known(slot) ? std::to_string(slot.pid) : "gone";
}

std::string handle_text(std::uint64_t handle) { return fmt::format("{:#018x}", handle); }

Json to_json(const SlotInfo& slot) {
    return {{"index", slot.index},
            {"state", slot.state},
            {"client", has_client(slot) ? Json(slot.holder) : Json()},
            {"pid", has_client(slot) && pid_is_known(slot) ? Json(slot.pid) : Json()},
            {"since", slot.since},
            {"age_seconds", in_use(slot) ? Json(age_of(slot.since)) : Json()},
            {"tag", slot.tag},
            {"generation", slot.generation},
            {"offset", slot.offset},
            {"handle", slot.handle == 0 ? Json() : Json(handle_text(slot.handle))}};
}

Table make_table() {
    const Align right = Align::kRight;
    return Table({{"INDEX", right, 9},
                  {"STATE", Align::kLeft, 8},
                  {"CLIENT", right},
                  {"PID", right, 7},
                  {"FOR", right, 6},
                  {"TAG", right, 10},
                  {"GENERATION", right},
                  {"OFFSET", right, 14},
                  {"HANDLE", Align::kLeft, 18}});
}

Colour colour_of_slot(std::string_view state) {
    if (state == "held" || state == "shown") {
        return Colour::kGreen;
    }
    if (state == "detached") {
        return Colour::kYellow;
    }
    return state == "unknown" ? Colour::kRed : Colour::kDim;
}

std::string to_line(const Table& table, const SlotInfo& slot, bool colour) {
    return table.line({{std::to_string(slot.index)},
                       {slot.state, colour_of_slot(slot.state)},
                       {has_client(slot) ? std::to_string(slot.holder) : "-"},
                       {pid_text(slot)},
                       {in_use(slot) ? format_duration(age_of(slot.since)) : "-"},
                       {slot.tag == 0 ? "-" : std::to_string(slot.tag)},
                       {std::to_string(slot.generation)},
                       {std::to_string(slot.offset)},
                       {slot.handle == 0 ? "-" : handle_text(slot.handle)}},
                      colour);
}

// An empty list may come of a number that is no client's.
void note_whether_attached(const mempool::Inspector& inspector, std::string_view pool,
                           std::uint64_t client) {
    const std::vector<mempool::ClientInfo> all = inspector.clients();
    if (std::none_of(all.begin(), all.end(),
                     [&](const mempool::ClientInfo& c) { return c.id == client; })) {
        print_note(fmt::format("no client {} is attached to '{}': mempoolctl clients lists them",
                               client, pool));
    }
}

// Calls `print` for each slot that the filter lets through, with how many came before it.
template <typename Print>
void each_slot(const mempool::Inspector& inspector, std::string_view pool, const Filter& filter,
               const Output& output, const Print& print) {
    std::uint64_t printed = 0;
    inspector.visit_slots([&](const SlotInfo& slot) {
        if (filter.accepts(slot)) {
            print(slot, printed++);
        }
        return printed < filter.limit && !output.broken();
    });
    if (printed == 0 && filter.client) {
        note_whether_attached(inspector, pool, *filter.client);
    }
}

Exit run_slots(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments.front();
    const Filter filter = filter_of(invocation.options);
    const mempool::Inspector inspector = mempool::Inspector::open(pool, invocation.attach);
    const bool served = note_whether_served(invocation, inspector);
    if (!invocation.json) {
        const Table table = make_table();
        output.text(table.titles(output.colour()));
        each_slot(inspector, pool, filter, output, [&](const SlotInfo& slot, std::uint64_t) {
            output.text(to_line(table, slot, output.colour()));
        });
        return Exit::kOk;
    }
    output.text(fmt::format("{{\n  \"pool\": {},\n  \"served\": {},\n  \"slots\": [",
                            mempoolctl::to_line(Json(pool)), served));
    each_slot(inspector, pool, filter, output, [&](const SlotInfo& slot, std::uint64_t before) {
        output.text(before == 0 ? "\n    " : ",\n    ");
        output.text(mempoolctl::to_line(to_json(slot)));
    });
    output.text("\n  ]\n}\n");
    return Exit::kOk;
}

void add_slots_options(po::options_description& options) {
    options.add_options()                                                                     //
        ("state", po::value<std::string>()->value_name("STATE"),                              //
         "only these: free, cached, held (with the shown ones), shown, detached or unknown")  //
        ("client", po::value<std::string>()->value_name("ID"),                                //
         "only those that this client holds")                                                 //
        ("limit", po::value<std::string>()->value_name("N"),                                  //
         "stop after so many");
}

}  // namespace

const Command kSlots{
    .name = "slots",
    .arguments = "POOL",
    .summary = "List a pool's slots: state, holder, age, tag",
    .details =
        "A slot that a client holds is 'shown' once its handle was given out, else 'held'; only\n"
        "shown and detached slots have a handle that the pool accepts.\n"
        "FOR is how long a slot has been held or detached, by the pool's own clock, which the\n"
        "daemon keeps. CLIENT and PID are the holder's, or of who detached it; 'gone': that\n"
        "client has left. Nothing stands still for this\n"
        "list: lines printed one after the other were true one after the other.",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = add_slots_options,
    .run = run_slots,
};

}  // namespace mempoolctl
