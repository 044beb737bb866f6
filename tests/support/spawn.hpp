// Starts a program that dies with the test.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace mempool_test {

/// Forks and executes `program` with `arguments`, the first of which is its name; `in_child` runs
/// before that and makes async-signal-safe calls only, since the test may have threads. The child
/// is killed when the calling thread ends (PR_SET_PDEATHSIG). Throws std::system_error.
pid_t spawn(const std::string& program, std::vector<std::string> arguments,
            const std::function<void()>& in_child = {});

}  // namespace mempool_test
