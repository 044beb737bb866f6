#include "runner/table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace bench {

namespace {

double quantile(const std::vector<double>& sorted, double part) {
    const double at = part * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (at - std::floor(at));
}

/// Three digits that count, without exponents.
std::string number(double value) {
    char text[32];
    const double size = std::abs(value);
    const int digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    // NOLINTNEXTLINE(*-vararg)
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string cell(const Samples& samples, const std::string& name) {
    const auto found = samples.find(name);
    if (found == samples.end() || found->second.empty()) {
        return "–";
    }
    const Spread spread = spread_of(found->second);
    return number(spread.median) + " [" + number(spread.low) + "–" + number(spread.high) + "]";
}

void print_peers(const Catalogue& catalogue, const Samples& samples) {
    std::printf("| ns a slot |");
    for (const Column& column : columns()) {
        std::printf(" %.*s |", static_cast<int>(column.title.size()), column.title.data());
    }
    std::printf("\n|---|");
    for (std::size_t k = 0; k < columns().size(); ++k) {
        std::printf("---|");
    }
    std::printf("\n");
    for (const Row& row : catalogue.rows) {
        if (!row.pool) {
            continue;
        }
        std::printf("| %s%s |", row.name.c_str(), row.threads ? " †" : "");
        for (const Column& column : columns()) {
            std::printf(" %s |", cell(samples, std::string(column.name) + "/" + row.name).c_str());
        }
        std::printf("\n");
    }
    std::printf(
        "\nMedian [quartiles] of all repetitions, interleaved at random. †: in one process only; "
        "its "
        "parties are threads.\n");
}

void print_figures(const Catalogue& catalogue, const Samples& samples) {
    std::printf("\n| mempool's own figures | | |\n|---|---|---|\n");
    for (const Figure& figure : catalogue.figures) {
        std::printf("| %s | %s | %s |\n", figure.title.c_str(),
                    cell(samples, "figure/" + figure.name).c_str(), figure.unit.c_str());
    }
}

void print_family(const Family& family, const Catalogue& catalogue, const Samples& samples,
                  int cores) {
    std::string head = "| " + std::string(family.title) + " |";
    std::string line = "|---|";
    for (const int count : parties_at_once(cores)) {
        if (count >= family.least) {
            head +=
                " " + std::to_string(count) + (count > cores ? " (more than cores)" : "") + " |";
            line += "---|";
        }
    }
    std::printf("\n%s\n%s\n", head.c_str(), line.c_str());
    for (const Row& row : catalogue.rows) {
        if (!row.pool) {
            continue;
        }
        std::printf("| %s%s |", row.name.c_str(), row.threads ? " †" : "");
        for (const int count : parties_at_once(cores)) {
            if (count >= family.least) {
                std::printf(" %s |",
                            cell(samples, case_of(family, count) + "/" + row.name).c_str());
            }
        }
        std::printf("\n");
    }
}

std::string size_title(std::size_t bytes) {
    if (bytes >= std::size_t{1} << 20U) {
        return std::to_string(bytes >> 20U) + " MiB";
    }
    return bytes >= 1024 ? std::to_string(bytes >> 10U) + " KiB" : std::to_string(bytes) + " B";
}

void print_sizes(const Catalogue& catalogue, const Samples& samples) {
    std::printf("\n| got, written, checked, returned; ns by size |");
    for (const std::size_t bytes : slot_sizes()) {
        std::printf(" %s |", size_title(bytes).c_str());
    }
    std::printf("\n|---|");
    for (std::size_t k = 0; k < slot_sizes().size(); ++k) {
        std::printf("---|");
    }
    std::printf("\n");
    for (const Row& row : catalogue.rows) {
        if (!has_sizes(row.name)) {
            continue;
        }
        std::printf("| %s%s |", row.name.c_str(), row.threads ? " †" : "");
        for (const std::size_t bytes : slot_sizes()) {
            std::printf(" %s |", cell(samples, case_of_size(bytes) + "/" + row.name).c_str());
        }
        std::printf("\n");
    }
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    return {quantile(samples, 0.25), quantile(samples, 0.5), quantile(samples, 0.75)};
}

void print_tables(const Catalogue& catalogue, const Samples& samples,
                  const std::map<std::string, std::string>& machine, int scaling_cores) {
    for (const auto& [name, value] : machine) {
        std::printf("%s: %s  \n", name.c_str(), value.c_str());
    }
    std::printf("\n");
    for (const std::string& peer : catalogue.skipped) {
        std::printf("skipped: %s not installed\n", peer.c_str());
    }
    print_peers(catalogue, samples);
    for (const Family& family : families()) {
        print_family(family, catalogue, samples, scaling_cores);
    }
    print_sizes(catalogue, samples);
    print_figures(catalogue, samples);
}

}  // namespace bench
