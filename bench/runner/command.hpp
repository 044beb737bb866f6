// Running a measuring program and reading what it prints.
#pragma once

#include <string>
#include <vector>

namespace bench {

struct Outcome {
    int status = 0;  ///< exit status; 128 + signal if one ended it
    std::string output;
};

/// Runs `words`, the first of which is a program's path. Its standard error goes to ours, or
/// nowhere if `quiet`. Throws std::system_error if it can't be started.
[[nodiscard]] Outcome run_command(const std::vector<std::string>& words, bool quiet = false);

}  // namespace bench
