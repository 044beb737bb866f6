// One child process that does as it is told, for tests of what single clients live through.
//
// The body runs in the child and talks to the test over a pair of pipes, a byte at a time. A byte
// that does not come because the other end is gone ends the child, and fails the test.
#pragma once

#include <sys/types.h>

#include <array>
#include <functional>

namespace mempool_test {

/// The child's or the test's end of the two pipes.
class Line {
public:
    Line(int in, int out) : in_(in), out_(out) {}
    void say(char byte) const;
    /// The next byte, or 0 if the other end is gone.
    [[nodiscard]] char hear() const;

private:
    int in_, out_;
};

/// Owns the process: SIGKILLs and reaps it when it goes. Start it before the test has a client.
class Child {
public:
    /// Forks; the child exits with what `body` returns, 99 if it throws.
    explicit Child(const std::function<int(const Line&)>& body);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child();

    [[nodiscard]] const Line& line() const { return line_; }
    [[nodiscard]] pid_t pid() const { return pid_; }
    void signal(int number) const;
    /// Waits for the end: exit status, or 128 + the number of a fatal signal.
    int wait();

private:
    std::array<int, 2> to_child_ = {-1, -1};
    std::array<int, 2> from_child_ = {-1, -1};
    pid_t pid_ = -1;
    Line line_{-1, -1};
};

}  // namespace mempool_test
