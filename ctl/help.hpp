// What `mempoolctl help` says. Called by main.
#pragma once

#include <string>

#include "command.hpp"

namespace mempoolctl {

/// About `command`, or about mempoolctl as a whole where that is nullptr.
[[nodiscard]] std::string help_text(const Command* command);

}  // namespace mempoolctl
