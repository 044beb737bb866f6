// mempoolctl audit: whether a pool's records agree with each other; with --repair, mended first.
#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <cerrno>
#include <mempool/inspect.hpp>
#include <optional>
#include <string>
#include <utility>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

namespace po = boost::program_options;

// Only the daemon can: it knows who is attached, and nobody attaches meanwhile.
mempool::RepairReport repair(const Invocation& invocation, const std::string& pool) {
    const auto connect = [&] {
        try {
            return connect_to_daemon(invocation.attach);
        } catch (const mempool::Error& error) {
            throw mempool::Error(error.code(),
                                 fmt::format("mempoold repairs pools, and it can't be reached; "
                                             "start it first ({})",
                                             error.reason()));
        }
    };
    return connect().repair(pool);
}

Json to_json(const mempool::RepairReport& repaired) {
    Json mended = Json::array();
    for (const auto& [fault, count] : repaired.mended) {
        mended.push_back({{"fault", fault}, {"count", count}});
    }
    return {{"mended", std::move(mended)}, {"clients", repaired.clients}};
}

std::string describe(const mempool::RepairReport& repaired, const std::string& pool, bool colour) {
    if (repaired.mended.empty()) {
        return fmt::format("{}: nothing mended\n", pool);
    }
    Table table({{"FAULT"}, {"MENDED", Align::kRight}});
    for (const auto& [fault, count] : repaired.mended) {
        table.add({{fault, Colour::kGreen}, {std::to_string(count)}});
    }
    return table.render(colour);
}

Json to_json(const mempool::AuditReport& report, const std::string& pool, bool served) {
    Json findings = Json::array();
    for (const mempool::AuditFinding& finding : report.findings) {
        findings.push_back(
            {{"fault", finding.fault}, {"where", finding.where}, {"text", finding.text}});
    }
    return {{"pool", pool},
            {"served", served},
            {"clean", report.findings.empty()},
            {"slots", report.slots},
            {"magazines", report.magazines},
            {"findings", std::move(findings)}};
}

std::string describe(const mempool::AuditReport& report, const std::string& pool, bool colour) {
    const std::string compared = fmt::format("{} and {} compared", counted(report.slots, "slot"),
                                             counted(report.magazines, "magazine"));
    if (report.findings.empty()) {
        return fmt::format("{}: {}, {}\n", pool, paint("clean", Colour::kGreen, colour), compared);
    }
    Table table({{"FAULT"}, {"WHERE", Align::kRight}, {"WHAT"}});
    for (const mempool::AuditFinding& finding : report.findings) {
        table.add({{finding.fault, Colour::kRed}, {std::to_string(finding.where)}, {finding.text}});
    }
    return fmt::format("{}{}: {}, {}\n", table.render(colour), pool,
                       paint(counted(report.findings.size(), "fault"), Colour::kRed, colour),
                       compared);
}

Exit run_audit(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments.front();
    std::optional<mempool::RepairReport> repaired;
    if (invocation.options["repair"].as<bool>()) {
        repaired = repair(invocation, pool);
    }
    const mempool::Inspector inspector = mempool::Inspector::open(pool, invocation.attach);
    const mempool::AuditReport report = inspector.audit();
    const bool served = note_whether_served(invocation, inspector);
    if (invocation.json) {
        Json answer = to_json(report, pool, served);
        if (repaired) {
            answer["repaired"] = to_json(*repaired);
        }
        output.json(answer);
    } else {
        output.text((repaired ? describe(*repaired, pool, output.colour()) : "") +
                    describe(report, pool, output.colour()));
    }
    if (repaired && !report.findings.empty()) {
        print_note(repaired->clients == 0
                       ? "what is left cannot be mended, or was damaged again: is a client at it?"
                       : fmt::format("what is left may be in use by one of {}: repair again once "
                                     "they have ended",
                                     counted(repaired->clients, "attached client")));
    }
    return report.findings.empty() ? Exit::kOk : Exit::kBadAnswer;
}

void add_audit_options(po::options_description& options) {
    options.add_options()              //
        ("repair", po::bool_switch(),  //
         "have the daemon mend first what can be mended without touching a live client's");
}

}  // namespace

const Command kAudit{
    .name = "audit",
    .arguments = "POOL",
    .summary = "Compare a pool's records with each other, and mend them",
    .details =
        "Checks that every slot is in exactly one place and every magazine where its word\n"
        "says, while clients work. Changes nothing, unless told to --repair, which needs\n"
        "the daemon, and root, the daemon's user or its admin_group. Ends with 1 if it finds\n"
        "a fault, with --repair one that is left.",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = add_audit_options,
    .run = run_audit,
};

}  // namespace mempoolctl
