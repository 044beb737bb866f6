// The tables: medians and quartiles in Markdown.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runner/catalogue.hpp"

namespace bench {

/// All repetitions of each figure, by "COLUMN/ROW" for peers and "figure/NAME" for mempool's own.
using Samples = std::map<std::string, std::vector<double>>;

/// Median and quartiles of one figure, linear between samples.
struct Spread {
    double low = 0;
    double median = 0;
    double high = 0;
};
[[nodiscard]] Spread spread_of(std::vector<double> samples);

/// The machine in a few lines, then the table of peers and the table of figures, to standard
/// output.
void print_tables(const Catalogue& catalogue, const Samples& samples,
                  const std::map<std::string, std::string>& machine, int scaling_cores);

}  // namespace bench
