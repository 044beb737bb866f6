// What bench_run measures: which program gives which figure, and where it stands in the tables.
#pragma once

#include <cstddef>
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

/// What is measured in more and more parties at once: the cases NAME_1, NAME_2, NAME_4, ...
struct Family {
    std::string_view name;
    std::string_view title;
    int least = 1;  ///< parties
};
[[nodiscard]] const std::vector<Family>& families();
[[nodiscard]] std::string case_of(const Family& family, int parties);
/// 1, 2, 4, ... up to the cores, and twice as many as there are.
[[nodiscard]] std::vector<int> parties_at_once(int cores);

/// Sizes of a slot that is got, written, checked and returned: where a pool begins to pay.
[[nodiscard]] const std::vector<std::size_t>& slot_sizes();
[[nodiscard]] std::string case_of_size(std::size_t bytes);
/// Whether a peer is measured so: a pool, or what a program without one would do.
[[nodiscard]] bool has_sizes(std::string_view peer);

/// A peer, as its program lists it.
struct Row {
    std::string name;
    std::string program;
    bool threads = false;  ///< its parties are threads of one process
    bool bulk = false;     ///< it can get and put several at once
    bool pool = true;      ///< false: it has the cases of slot_sizes() only
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
/// The command that prints the table of single calls.
[[nodiscard]] std::vector<std::string> command_for_tails();

}  // namespace bench
