// mempoolctl status: a pool's figures, or all pools' in a table.
#include <fmt/format.h>

#include <cerrno>
#include <iterator>
#include <mempool/inspect.hpp>
#include <vector>

#include "command.hpp"
#include "failure.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

using mempool::PoolStatus;

Json to_json(const PoolStatus& s, bool served) {
    return {{"pool", s.pool},
            {"uuid", s.uuid},
            {"served", served},
            {"slot_size", s.slot_size},
            {"slot_stride", s.slot_stride},
            {"slots", s.slots},
            {"max_slots", s.max_slots},
            {"free", s.free},
            {"cached", s.cached},
            {"held", s.held},
            {"detached", s.detached},
            {"unknown", s.unknown},
            {"segments", s.segments},
            {"clients", s.clients},
            {"max_clients", s.max_clients},
            {"lanes", s.lanes},
            {"waiters", s.waiters},
            {"gets", s.gets},
            {"puts", s.puts},
            {"exhausted", s.exhausted},
            {"refused", s.refused},
            {"steals", s.steals},
            {"reclaimed", s.reclaimed},
            {"deaths", s.deaths},
            {"grown", s.grown},
            {"grow_failures", s.grow_failures},
            {"shards", s.shards},
            {"magazine_capacity", s.magazine_capacity},
            {"metadata_bytes", s.metadata_bytes},
            {"erase_on_put", s.erase_on_put},
            {"quota", s.quota},
            {"created_at", s.created_at},
            {"daemon_pid", s.daemon_pid},
            {"daemon_starts", s.daemon_starts},
            {"names", s.missing_names}};
}

std::string share(std::uint64_t part, std::uint64_t whole) {
    const double percent =
        whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
    return fmt::format("{} ({:.1f}%)", part, percent);
}

std::string describe(const PoolStatus& s, bool served, bool colour) {
    std::string text;
    const auto line = [&](std::string_view key, std::string_view value, Colour c = Colour::kNone) {
        fmt::format_to(std::back_inserter(text), "{:<14}{}\n", key, paint(value, c, colour));
    };
    const auto alert = [](std::uint64_t figure, Colour c) {
        return figure == 0 ? Colour::kNone : c;
    };
    line("pool", s.pool, Colour::kBold);
    line("uuid", s.uuid);
    line("created", format_time(s.created_at));
    line("daemon",
         served
             ? fmt::format("running, pid {}; start {} for this pool", s.daemon_pid, s.daemon_starts)
             : "none answers for this pool now",
         served ? Colour::kGreen : Colour::kYellow);
    line("slot size",
         s.slot_stride == s.slot_size
             ? format_bytes(s.slot_size)
             : fmt::format("{}, takes {}", format_bytes(s.slot_size), format_bytes(s.slot_stride)));
    line("slots", fmt::format("{} of at most {}, in {}", s.slots, s.max_slots,
                              counted(s.segments, "segment")));
    line("  free", share(s.free, s.slots), s.free == 0 ? Colour::kYellow : Colour::kNone);
    line("  cached", share(s.cached, s.slots));
    line("  held", share(s.held, s.slots));
    line("  detached", share(s.detached, s.slots), alert(s.detached, Colour::kYellow));
    if (s.unknown != 0) {
        line("  unknown", fmt::format("{}: damaged, see mempoolctl audit {}", s.unknown, s.pool),
             Colour::kRed);
    }
    line("memory", fmt::format("{} slots, {} metadata", format_bytes(s.slots * s.slot_stride),
                               format_bytes(s.metadata_bytes)));
    line("clients", fmt::format("{} of at most {}, in {}", s.clients, s.max_clients,
                                counted(s.lanes, "lane")));
    line("waiters", std::to_string(s.waiters), alert(s.waiters, Colour::kYellow));
    line("gets", fmt::format("{}, {} found nothing", s.gets, s.exhausted));
    line("puts", fmt::format("{}, {} refused", s.puts, s.refused));
    line("steals", fmt::format("{} from idle lanes", counted(s.steals, "magazine")));
    line("reclaimed",
         fmt::format("{} from {}", counted(s.reclaimed, "slot"), counted(s.deaths, "dead client")));
    line("grown",
         fmt::format("{}, {}", counted(s.grown, "segment"), counted(s.grow_failures, "failure")),
         alert(s.grow_failures, Colour::kYellow));
    line("magazines", fmt::format("of {}, in {}", counted(s.magazine_capacity, "slot"),
                                  counted(s.shards, "shard")));
    line("erase on put", s.erase_on_put ? "yes" : "no");
    if (s.quota != 0) {
        line("quota", fmt::format("{} a client", counted(s.quota, "slot")));
    }
    if (!s.missing_names.empty()) {
        line("names", printable(s.missing_names), Colour::kYellow);
    }
    return text;
}

Exit show_one(const Invocation& invocation, Output& output) {
    const std::string& name = invocation.arguments.front();
    const mempool::Inspector inspector = mempool::Inspector::open(name, invocation.attach);
    const PoolStatus status = inspector.status();
    const bool served = note_whether_served(invocation, inspector);
    if (invocation.json) {
        output.json(to_json(status, served));
    } else {
        output.text(describe(status, served, output.colour()));
    }
    return Exit::kOk;
}

struct Answer {
    PoolStatus status;
    bool served = false;
};

// The status of every pool that can be read. What can't is told on standard error; in `exit` too if
// the daemon serves it. Of a pool that the index knows and the daemon doesn't serve, the memory is
// read.
std::vector<Answer> read_all(const Invocation& invocation, mempool::LookAt at, Exit& exit) {
    std::vector<Answer> answers;
    for (const mempool::FoundPool& pool : mempool::find_pools(invocation.attach, at)) {
        try {
            answers.push_back({mempool::Inspector::open(pool.name, invocation.attach,
                                                        pool.served ? mempool::LookAt::kDaemon
                                                                    : mempool::LookAt::kMemory)
                                   .status(),
                               pool.served});
        } catch (const mempool::Error& error) {
            if (error.code().value() == ENOENT) {
                continue;  // removed since it was found
            }
            print_note(error.what());
            exit = pool.served ? exit_of(error) : exit;
        }
    }
    return answers;
}

Exit show_all(const Invocation& invocation, Output& output) {
    const DaemonAnswer daemon = ask_daemon(invocation.attach);
    Exit exit = Exit::kOk;
    const std::vector<Answer> answers = read_all(invocation, look_at(daemon), exit);
    if (invocation.json) {
        Json list = Json::array();
        for (const Answer& answer : answers) {
            list.push_back(to_json(answer.status, answer.served));
        }
        output.json({{"daemon", daemon.version.empty() ? Json() : Json(daemon.version)},
                     {"pools", std::move(list)}});
        return exit;
    }
    if (daemon.version.empty()) {
        print_note(daemon.problem);
    }
    if (answers.empty()) {
        print_note("there are no pools to show");
        return exit;
    }
    const Align right = Align::kRight;
    Table table({{"POOL"},
                 {"SERVED"},
                 {"SIZE", right},
                 {"SLOTS", right},
                 {"MAX", right},
                 {"FREE", right},
                 {"CACHED", right},
                 {"HELD", right},
                 {"DETACHED", right},
                 {"SEGMENTS", right},
                 {"CLIENTS", right},
                 {"WAITERS", right},
                 {"RECLAIMED", right}});
    for (const Answer& answer : answers) {
        const PoolStatus& s = answer.status;
        table.add({{s.pool},
                   {answer.served ? "yes" : "no", answer.served ? Colour::kGreen : Colour::kYellow},
                   {format_bytes(s.slot_size)},
                   {std::to_string(s.slots)},
                   {std::to_string(s.max_slots)},
                   {std::to_string(s.free), s.free == 0 ? Colour::kYellow : Colour::kNone},
                   {std::to_string(s.cached)},
                   {std::to_string(s.held)},
                   {std::to_string(s.detached)},
                   {std::to_string(s.segments)},
                   {std::to_string(s.clients)},
                   {std::to_string(s.waiters)},
                   {std::to_string(s.reclaimed)}});
    }
    output.text(table.render(output.colour()));
    return exit;
}

Exit run_status(const Invocation& invocation, Output& output) {
    return invocation.arguments.empty() ? show_all(invocation, output)
                                        : show_one(invocation, output);
}

}  // namespace

const Command kStatus{
    .name = "status",
    .arguments = "[POOL]",
    .summary = "Show a pool's figures, or all pools in a table",
    .details =
        "free: any client can get it. cached: free, in a thread's lane. held: by a client,\n"
        "shown or not.\n"
        "detached: between clients. free + cached + held + detached = slots, when nothing\n"
        "moves.",
    .least_arguments = 0,
    .most_arguments = 1,
    .add_options = nullptr,
    .run = run_status,
};

}  // namespace mempoolctl
