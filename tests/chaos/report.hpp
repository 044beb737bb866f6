// Two columns of what happened, on stdout.
#pragma once

#include <concepts>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace mempool_test {

class Report {
public:
    void add(std::string what, std::string value) {
        lines_.emplace_back(std::move(what), std::move(value));
    }
    void add(std::string what, std::integral auto value) {
        add(std::move(what), std::to_string(value));
    }
    void print() const {
        std::printf("== Summary\n");
        for (const auto& [what, value] : lines_) {
            std::printf("  %-40s %s\n", what.c_str(), value.c_str());
        }
        std::fflush(stdout);
    }

private:
    std::vector<std::pair<std::string, std::string>> lines_;
};

}  // namespace mempool_test
