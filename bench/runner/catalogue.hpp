// What bench_run measures: which program gives which figure, and where it stands in the tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// A column of the peers' table.
struct Column {
    std::string_view name;   ///< as measuring programs and the JSON file know it
    std::string_view title;  ///< as the table shows it
};
[[nodiscard]] const std::vector<Column>& columns();

/// A peer, as its program lists it.
struct Row {
    std::string name;
    std::string program;
    bool threads = false;  ///< its parties are threads of one process
    bool bulk = false;     ///< it can get and put several at once
};

/// A figure of mempool's own.
struct Figure {
    std::string name;
    std::string unit;
    std::string title;
};

/// What can be measured here, and what cannot.
struct Catalogue {
    std::vector<Row> rows;
    std::vector<Figure> figures;
    std::vector<std::string> skipped;  ///< peers that are not installed
};

/// Asks every program what it has, and has every peer check itself. Throws std::runtime_error if a
/// peer fails its check: it would be no use to measure it.
[[nodiscard]] Catalogue make_catalogue();

/// The command that prints one figure: a peer's or mempool's own.
[[nodiscard]] std::vector<std::string> command_for(const Row& row, std::string_view column,
                                                   int milliseconds);
[[nodiscard]] std::vector<std::string> command_for(const Figure& figure);

}  // namespace bench
