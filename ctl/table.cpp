#include "table.hpp"

#include <algorithm>

namespace mempoolctl {
namespace {

std::string_view escape_of(Colour colour) {
    switch (colour) {
        case Colour::kBold:
            return "\x1b[1m";
        case Colour::kDim:
            return "\x1b[2m";
        case Colour::kGreen:
            return "\x1b[32m";
        case Colour::kYellow:
            return "\x1b[33m";
        case Colour::kRed:
            return "\x1b[31m";
        case Colour::kNone:
            break;
    }
    return {};
}

}  // namespace

std::string paint(std::string_view text, Colour colour, bool enabled) {
    if (!enabled || colour == Colour::kNone || text.empty()) {
        return std::string(text);
    }
    return std::string(escape_of(colour)) + std::string(text) + "\x1b[0m";
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
    for (Column& column : columns_) {
        column.width = std::max(column.width, column.title.size());
    }
}

void Table::add(std::vector<Cell> row) {
    for (std::size_t i = 0; i < row.size() && i < columns_.size(); ++i) {
        columns_[i].width = std::max(columns_[i].width, row[i].text.size());
    }
    rows_.push_back(std::move(row));
}

std::string Table::line(const std::vector<Cell>& row, bool colour) const {
    std::string line;
    const std::size_t cells = std::min(row.size(), columns_.size());
    for (std::size_t i = 0; i < cells; ++i) {
        const Cell& cell = row[i];
        const std::size_t width = columns_[i].width;
        const std::size_t padding = width > cell.text.size() ? width - cell.text.size() : 0;
        const bool right = columns_[i].align == Align::kRight;
        line.append(i == 0 ? 0 : 2, ' ');
        line.append(right ? padding : 0, ' ');
        line += paint(cell.text, cell.colour, colour);
        line.append(right || i + 1 == cells ? 0 : padding, ' ');
    }
    line += '\n';
    return line;
}

std::string Table::titles(bool colour) const {
    std::vector<Cell> row;
    row.reserve(columns_.size());
    for (const Column& column : columns_) {
        row.emplace_back(std::string(column.title), Colour::kBold);
    }
    return line(row, colour);
}

std::string Table::render(bool colour) const {
    std::string text = titles(colour);
    for (const std::vector<Cell>& row : rows_) {
        text += line(row, colour);
    }
    return text;
}

}  // namespace mempoolctl
