// Which exit code a failure means. Called by main, and by commands that go on after one.
#pragma once

#include <mempool/error.hpp>

#include "command.hpp"

namespace mempoolctl {

[[nodiscard]] Exit exit_of(const mempool::Error& error);

}  // namespace mempoolctl
