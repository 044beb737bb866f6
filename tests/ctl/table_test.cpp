// Aligned columns.
#include "ctl/table.hpp"

#include <gtest/gtest.h>

namespace mempoolctl {
namespace {

TEST(Table, AlignsToTheWidestCell) {
    Table table({{"NAME"}, {"N", Align::kRight}, {"LAST"}});
    table.add({{"a"}, {"1"}, {"x"}});
    table.add({{"longer"}, {"1000"}, {"y"}});
    EXPECT_EQ(table.render(false),
              "NAME       N  LAST\n"
              "a          1  x\n"
              "longer  1000  y\n");
}

TEST(Table, ColoursDoNotCountAsWidth) {
    Table table({{"S"}, {"T"}});
    table.add({{"ok", Colour::kGreen}, {"t"}});
    table.add({{"worse"}, {"t"}});
    EXPECT_EQ(table.render(true),
              "\x1b[1mS\x1b[0m      \x1b[1mT\x1b[0m\n"
              "\x1b[32mok\x1b[0m     t\n"
              "worse  t\n");
}

TEST(Table, ALongTableKeepsTheWidthsItWasGiven) {
    const Table table({{"INDEX", Align::kRight, 8}, {"B"}});
    EXPECT_EQ(table.titles(false), "   INDEX  B\n");
    EXPECT_EQ(table.line({{"7"}, {"b"}}, false), "       7  b\n");
    EXPECT_EQ(table.line({{"123456789"}, {"b"}}, false), "123456789  b\n");
}

}  // namespace
}  // namespace mempoolctl
