// Runs a part of a test in a forked child: for what would disturb the test's own process.
//
// Used by the library's multi-process tests. A child of a process with threads has the calling one
// alone; what it attaches it attaches itself.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mempool_test {

/// Runs `body` in a forked child; its result is the exit status.
template <typename Body>
int in_child(Body body) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(body());
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace mempool_test

/// 0, or the line of the first condition that does not hold.
#define MEMPOOL_CHECK(condition)   \
    if (!(condition)) {            \
        return __LINE__ % 250 + 1; \
    }
