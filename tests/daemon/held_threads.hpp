// A daemon whose threads stand still but for the first one, which runs its event loop.
//
// Used by tests of what goes on while the worker is at something long. Needs ptrace. Threads that
// the daemon starts meanwhile run.
#pragma once

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <filesystem>
#include <string>
#include <vector>

namespace mempoold {

class HeldThreads {
public:
    explicit HeldThreads(pid_t daemon) {
        for (const auto& entry :
             std::filesystem::directory_iterator("/proc/" + std::to_string(daemon) + "/task")) {
            const pid_t thread = std::stoi(entry.path().filename());
            if (thread != daemon && ::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) == 0 &&
                ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) == 0 &&
                ::waitpid(thread, nullptr, __WALL) == thread) {
                held_.push_back(thread);
            }
        }
    }
    HeldThreads(const HeldThreads&) = delete;
    HeldThreads& operator=(const HeldThreads&) = delete;
    /// They go on.
    ~HeldThreads() {
        for (const pid_t thread : held_) {
            ::ptrace(PTRACE_DETACH, thread, nullptr, nullptr);
        }
    }

    /// False: there is none, or this system lets nobody be traced.
    [[nodiscard]] bool any() const noexcept { return !held_.empty(); }

private:
    std::vector<pid_t> held_;
};

}  // namespace mempoold
