#include "runner/catalogue.hpp"

#include <algorithm>
#include <array>
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
        const Row row{fields[0], program, fields[1] == "threads", fields[2] == "bulk",
                      fields[2] != "sizes"};
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

const std::vector<Family>& families() {
    static const std::vector<Family> kFamilies = {
        {"wide", "pairs in N at once, a pool of 65,000"},
        {"deep", "1,536 got, then put, by each of N"},
        {"cross_1", "N/2 hand over by 1 to N/2, one pool", 2},
        {"cross_32", "N/2 hand over by 32 to N/2, one pool", 2},
    };
    return kFamilies;
}

std::string case_of(const Family& family, int parties) {
    return std::string(family.name) + "_" + std::to_string(parties);
}

const std::vector<std::size_t>& slot_sizes() {
    static const std::vector<std::size_t> kSizes = [] {
        std::vector<std::size_t> sizes;
        for (std::size_t bytes = 64; bytes <= std::size_t{16} << 20U; bytes *= 4) {
            sizes.push_back(bytes);
        }
        return sizes;
    }();
    return kSizes;
}

std::string case_of_size(std::size_t bytes) { return "size_" + std::to_string(bytes); }

bool has_sizes(std::string_view peer) {
    static constexpr std::array<std::string_view, 5> kPeers = {"mempool", "glibc malloc",
                                                               "jemalloc", "mimalloc", "Go make"};
    return std::find(kPeers.begin(), kPeers.end(), peer) != kPeers.end();
}

std::vector<int> parties_at_once(int cores) {
    std::vector<int> counts;
    for (int count = 1; count <= cores; count *= 2) {
        counts.push_back(count);
    }
    counts.push_back(2 * cores);
    return counts;
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

std::vector<std::string> command_for_tails() { return {std::string(kFigures), "--tail"}; }

}  // namespace bench
