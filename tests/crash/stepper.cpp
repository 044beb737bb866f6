#include "crash/stepper.hpp"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>

namespace mempool::test {

namespace {

// Stops the child with si_code SI_KERNEL, which tells it from a single step.
inline void breakpoint() { asm volatile("int3" ::: "memory"); }

constexpr int kCannotTrace = 125;

// Somebody pauses the whole test, or lets it go on.
bool is_pause(int status) {
    return WIFSTOPPED(status) && (WSTOPSIG(status) == SIGSTOP || WSTOPSIG(status) == SIGCONT);
}

}  // namespace

Stepper::Stepper(const std::function<int()>& operation, const std::function<void()>& prepare) {
    CPU_ZERO(&processors_);
    ::sched_getaffinity(0, sizeof(processors_), &processors_);
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &here);
    ::sched_setaffinity(0, sizeof(here), &here);  // where it is refused, a step takes longer
    pid_ = ::fork();
    if (pid_ < 0) {
        throw std::runtime_error("fork failed");
    }
    if (pid_ == 0) {
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
            ::_exit(kCannotTrace);
        }
        if (prepare) {
            prepare();
        }
        breakpoint();
        const int result = operation();
        breakpoint();
        ::_exit(result);
    }
    int status = wait();
    if (is_pause(status)) {
        status = resume(PTRACE_CONT);
    }
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
        throw std::runtime_error("the child cannot be traced (ptrace refused?)");
    }
    ::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
}

Stepper::~Stepper() {
    kill();
    ::sched_setaffinity(0, sizeof(processors_), &processors_);
}

bool Stepper::step() {
    if (over_) {
        return false;
    }
    const int status = resume(PTRACE_SINGLESTEP);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
        throw std::runtime_error("the operation crashed after " + std::to_string(steps_) +
                                 " instructions, signal " +
                                 std::to_string(WIFSTOPPED(status) ? WSTOPSIG(status) : 0));
    }
    siginfo_t info{};
    ::ptrace(PTRACE_GETSIGINFO, pid_, nullptr, &info);
    over_ = info.si_code == SI_KERNEL;
    steps_ += over_ ? 0 : 1;
    return !over_;
}

bool Stepper::step(std::uint64_t count) {
    while (count > 0 && step()) {
        --count;
    }
    return !over_;
}

bool Stepper::to_system_call() {
    constexpr int kSystemCall = SIGTRAP | 0x80;  // PTRACE_O_TRACESYSGOOD
    if (over_) {
        return false;
    }
    const int status = resume(PTRACE_SYSCALL);
    if (!WIFSTOPPED(status) || (WSTOPSIG(status) | 0x80) != kSystemCall) {
        throw std::runtime_error("the operation crashed after " + std::to_string(steps_) +
                                 " steps");
    }
    over_ = WSTOPSIG(status) == SIGTRAP;  // the closing breakpoint
    steps_ += over_ ? 0 : 1;
    return !over_;
}

bool Stepper::at_system_call() const {
    user_regs_struct registers{};
    if (over_ || ::ptrace(PTRACE_GETREGS, pid_, nullptr, &registers) != 0) {
        return false;
    }
    const long code = ::ptrace(PTRACE_PEEKTEXT, pid_, registers.rip, nullptr);
    return (static_cast<unsigned long>(code) & 0xffffU) == 0x050fU;
}

void Stepper::kill() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        int status = 0;
        do {
            status = wait();
        } while (pid_ > 0 && !WIFSIGNALED(status) && !WIFEXITED(status));
    }
}

int Stepper::finish() {
    int status = 0;
    do {
        // The closing breakpoint is passed over like any stop.
        status = resume(PTRACE_CONT);
    } while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    if (WIFSTOPPED(status)) {
        kill();
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int Stepper::resume(Request request) {
    int status = 0;
    do {
        if (::ptrace(request, pid_, nullptr, nullptr) != 0) {
            throw std::runtime_error("the child vanished");
        }
        status = wait();
    } while (is_pause(status));
    return status;
}

int Stepper::wait() {
    int status = 0;
    pid_t got = 0;
    do {
        got = ::waitpid(pid_, &status, __WALL);
    } while (got < 0 && errno == EINTR);
    if (got < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
        pid_ = -1;
    }
    return status;
}

bool can_trace() {
    try {
        Stepper probe([] { return 0; });
        return probe.finish() == 0;
    } catch (const std::runtime_error&) {
        return false;
    }
}

}  // namespace mempool::test
