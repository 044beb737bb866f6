#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "figures/figures.hpp"

namespace bench {

pid_t Child::start() {
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return child;
}

void Child::leave(const char* what) {
    if (what != nullptr) {
        std::fprintf(stderr, "bench: child: %s\n", what);
    }
    std::_Exit(what == nullptr ? 0 : 1);
}

void Child::kill() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
}

}  // namespace bench
