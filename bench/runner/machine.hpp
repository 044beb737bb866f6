// What the figures were measured on.
#pragma once

#include <map>
#include <string>

namespace bench {

/// CPU, cores, kernel, compiler, date: name and text.
[[nodiscard]] std::map<std::string, std::string> describe_machine();

/// Processors this process may run on.
[[nodiscard]] int usable_cores();

}  // namespace bench
