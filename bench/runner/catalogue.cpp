#include "runner/catalogue.hpp"

#include <sstream>
#include <stdexcept>

#include "runner/command.hpp"

namespace bench {

namespace {

constexpr int kExitNotInstalled = 77;

// Lists made by CMake, | between the items: paths of the measuring programs, and peers it found no
// package for.
constexpr std::string_view kPrograms = BENCH_PROGRAMS;
constexpr std::string_view kMissing = BENCH_MISSING;  // NOLINT(*-redundant-string-init): may be ""
constexpr std::string_view kFigures = BENCH_FIGURES;

std::vector<std::string> split(std::string_view text, char at) {
    std::vector<std::string> parts;
    std::istringstream stream{std::string(text)};
    for (std::string part; std::getline(stream, part, at);) {
        if (!part.empty()) {
            parts.push_back(part);
        }
    }
    return parts;
}

std::vector<std::vector<std::string>> list_of(const std::string& program) {
    const Outcome outcome = run_command({program, "--list"}, true);
    std::vector<std::vector<std::string>> lines;
    for (const std::string& line : split(outcome.output, '\n')) {
        lines.push_back(split(line, '\t'));
        if (lines.back().size() != 3) {
            throw std::runtime_error(
                std::string(program).append(" --list: a line has not three fields: ").append(line));
        }
    }
    return lines;
}

void add_peers(const std::string& program, Catalogue& catalogue) {
    const auto lines = list_of(program);
    if (lines.empty()) {  // built with a library that is gone
        catalogue.skipped.push_back(program.substr(program.rfind('_') + 1));
    }
    for (const auto& fields : lines) {
        const Row row{fields[0], program, fields[1] == "threads", fields[2] == "bulk"};
        const int status = run_command({program, row.name, "check"}).status;
        if (status == kExitNotInstalled) {
            catalogue.skipped.push_back(row.name);
        } else if (status != 0) {
            throw std::runtime_error(row.name + " failed its check");
        } else {
            catalogue.rows.push_back(row);
        }
    }
}

}  // namespace

const std::vector<Column>& columns() {
    static const std::vector<Column> kColumns = {
        {"pairs_1", "pair"},
        {"pairs_2", "two at once"},
        {"burst", "burst of 32"},
        {"bulk", "32 in bulk"},
        {"hand_over_1", "hand-over by 1"},
        {"hand_over_32", "hand-over by 32"},
        {"stamp", "8 B written, checked"},
        {"object", "1 MiB written, checked"},
        {"held", "of 1,000 held, 100,000"},
    };
    return kColumns;
}

Catalogue make_catalogue() {
    Catalogue catalogue;
    catalogue.skipped = split(kMissing, '|');
    for (const std::string& program : split(kPrograms, '|')) {
        add_peers(program, catalogue);
    }
    for (const auto& fields : list_of(std::string(kFigures))) {
        catalogue.figures.push_back({fields[0], fields[1], fields[2]});
    }
    return catalogue;
}

std::vector<std::string> command_for(const Row& row, std::string_view column, int milliseconds) {
    return {row.program, row.name, std::string(column), std::to_string(milliseconds)};
}

std::vector<std::string> command_for(const Figure& figure) {
    return {std::string(kFigures), figure.name};
}

}  // namespace bench
