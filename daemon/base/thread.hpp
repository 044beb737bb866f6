// The daemon's one way to start a thread.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace mempoold {

/// Runs `work` in a thread that nobody joins and that handles no signal: those are the event
/// loop's. (A fault is handled by the thread that made it.) Throws std::system_error.
template <typename Work>
void start_thread(Work&& work) {
    sigset_t handled;
    ::sigfillset(&handled);
    for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT}) {
        ::sigdelset(&handled, fault);
    }
    sigset_t before;
    ::pthread_sigmask(SIG_BLOCK, &handled, &before);
    try {
        std::thread(std::forward<Work>(work)).detach();
    } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace mempoold
