// Starts a program that dies with the test.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace mempool_test {

/// Becomes user and group `id` without other groups. Needs root. Async-signal-safe; false, and
/// errno, if it fails.
bool become_user(uid_t id);

/// Forks and executes `program` with `arguments`, the first of which is its name; `in_child` runs
/// before that and makes async-signal-safe calls only, since the test may have threads. The child
/// is killed when the calling thread ends (PR_SET_PDEATHSIG). A user that it becomes there need not
/// be able to reach the program. Throws std::system_error.
pid_t spawn(const std::string& program, std::vector<std::string> arguments,
            const std::function<void()>& in_child = {});

}  // namespace mempool_test
