#include "daemon/base/inherited.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace mempoold {

namespace {

void reset_signals() noexcept {
    // exec keeps what is ignored and resets what has a handler, so only the first is inherited. A
    // handler that stands there already is a sanitizer's.
    for (int signal = 1; signal <= SIGRTMAX; ++signal) {
        struct sigaction now {};
        if (::sigaction(signal, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
            now.sa_handler == SIG_IGN) {
            ::signal(signal, SIG_DFL);
        }
    }
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
}

void unblock_signals() noexcept {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Their signals end a process that has no handler. To ignore a signal drops one that is pending.
void stop_timers() noexcept {
    const itimerval off{};
    ::setitimer(ITIMER_REAL, &off, nullptr);
    ::setitimer(ITIMER_VIRTUAL, &off, nullptr);
    ::setitimer(ITIMER_PROF, &off, nullptr);
    for (const int signal : {SIGALRM, SIGVTALRM, SIGPROF}) {
        ::signal(signal, SIG_IGN);
        ::signal(signal, SIG_DFL);
    }
}

template <typename Resource>
void raise_to_hard(Resource resource) noexcept {
    rlimit limit{};
    if (::getrlimit(resource, &limit) == 0 && limit.rlim_cur != limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(resource, &limit);
    }
}

}  // namespace

void fill_standard_descriptors() noexcept {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) {
            continue;
        }
        // The lowest free number, which is `fd`. Without /dev, something that takes no byte does.
        if (::open("/dev/null", O_RDWR) < 0 && ::open("/", O_PATH) < 0) {
            ::_exit(EXIT_FAILURE);
        }
    }
}

void settle_process() {
    if (::getuid() != ::geteuid() || ::getgid() != ::getegid()) {
        throw std::runtime_error(
            "mempoold is set-uid or set-gid: whoever calls it would choose its files and its "
            "environment. Remove that bit (chmod ug-s), and start it as the user it shall be");
    }
    reset_signals();
    stop_timers();
    unblock_signals();
    ::umask(S_IWGRP | S_IWOTH);
    raise_to_hard(RLIMIT_NOFILE);
    raise_to_hard(RLIMIT_FSIZE);
    raise_to_hard(RLIMIT_CPU);
}

}  // namespace mempoold
