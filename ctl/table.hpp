// Aligned columns for people.
//
// Used by the commands that list things. Takes text that is printable ASCII or at least one column
// a byte; knows nothing of what it shows and never looks at the terminal's width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mempoolctl {

enum class Align : std::uint8_t { kLeft, kRight };
enum class Colour : std::uint8_t { kNone, kBold, kDim, kGreen, kYellow, kRed };

/// `text` between the escape sequences of `colour`; as it is if `enabled` is false.
[[nodiscard]] std::string paint(std::string_view text, Colour colour, bool enabled);

struct Cell {
    Cell(std::string cell_text, Colour cell_colour = Colour::kNone)  // NOLINT(*-explicit-*)
        : text(std::move(cell_text)), colour(cell_colour) {}

    std::string text;
    Colour colour;
};

struct Column {
    std::string_view title;
    Align align = Align::kLeft;
    std::size_t width = 0;  ///< at least; grows with what add() brings
};

class Table {
public:
    explicit Table(std::vector<Column> columns);

    /// One cell for each column.
    void add(std::vector<Cell> row);
    /// Titles and all rows, each line ended.
    [[nodiscard]] std::string render(bool colour) const;

    /// For a table too long to keep: titles and rows one by one, in the widths known so far.
    [[nodiscard]] std::string titles(bool colour) const;
    [[nodiscard]] std::string line(const std::vector<Cell>& row, bool colour) const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<Cell>> rows_;
};

}  // namespace mempoolctl
