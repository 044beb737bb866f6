// mempoolctl audit: whether a pool's records agree with each other.
#include <fmt/format.h>

#include <mempool/inspect.hpp>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

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

Exit run(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments.front();
    const mempool::AuditReport report = mempool::Inspector::open(pool, invocation.attach).audit();
    const bool served = note_whether_served(invocation, pool);
    if (invocation.json) {
        output.json(to_json(report, pool, served));
    } else {
        output.text(describe(report, pool, output.colour()));
    }
    return report.findings.empty() ? Exit::kOk : Exit::kBadAnswer;
}

}  // namespace

const Command kAudit{
    .name = "audit",
    .arguments = "POOL",
    .summary = "Compare a pool's records with each other",
    .details =
        "Checks that every slot is in exactly one place and every magazine where its word\n"
        "says, beside live traffic. Changes nothing. Ends with 1 if it finds a fault.",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = nullptr,
    .run = run,
};

}  // namespace mempoolctl
