// A forked child that does one operation, an instruction at a time.
//
// Used by the crash tests: the parent stops the child after any instruction, looks at the memory
// they share, kills it there or lets it go on. Needs ptrace and an x86-64 CPU.
#pragma once

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>

namespace mempool::test {

/// Owns the child: kills and reaps it when it goes. Throws std::runtime_error if tracing fails.
/// Both run on one processor meanwhile, the calling thread's: a step takes a fraction of the time
/// then.
class Stepper {
public:
    /// Forks. The child runs `prepare`, if there is one, then `operation`, whose result becomes its
    /// exit status; it is stopped before the first instruction of that.
    explicit Stepper(const std::function<int()>& operation,
                     const std::function<void()>& prepare = {});
    Stepper(const Stepper&) = delete;
    Stepper& operator=(const Stepper&) = delete;
    ~Stepper();

    /// Lets the child do one instruction; false if the operation is over.
    bool step();
    /// Steps `count` times or to the end; whether the operation goes on.
    bool step(std::uint64_t count);
    /// Lets the child go on to the next entry to, or return from, a system call; false if the
    /// operation is over. Counted as steps.
    bool to_system_call();
    /// Whether the next instruction is a system call.
    [[nodiscard]] bool at_system_call() const;
    /// SIGKILLs the child where it stands.
    void kill();
    /// Lets the child run to its end; its exit status, or -1 if it did not exit by itself.
    int finish();

    /// Instructions done so far.
    [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

private:
    using Request = decltype(PTRACE_CONT);
    // Lets the child go on as `request` says, to its next stop or its end: the status. That the
    // whole test was paused and goes on is passed over.
    int resume(Request request);
    int wait();

    cpu_set_t processors_{};  // of this thread, as before
    pid_t pid_ = -1;
    std::uint64_t steps_ = 0;
    bool over_ = false;
};

/// Whether this machine lets a process trace its children.
[[nodiscard]] bool can_trace();

}  // namespace mempool::test
