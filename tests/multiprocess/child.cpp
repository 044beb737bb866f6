#include "multiprocess/child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <system_error>

namespace mempool_test {

void Line::say(char byte) const {
    if (::write(out_, &byte, 1) != 1) {
        throw std::system_error(errno, std::generic_category(), "the other end is gone");
    }
}

char Line::hear() const {
    constexpr int kPatienceMs = 60'000;
    char byte = 0;
    pollfd waited{in_, POLLIN, 0};
    if (::poll(&waited, 1, kPatienceMs) == 0) {
        std::fprintf(stderr, "the other end has said nothing for a minute\n");
        return '\0';
    }
    ssize_t got = 0;
    do {
        got = ::read(in_, &byte, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1 ? byte : '\0';
}

Child::Child(const std::function<int(const Line&)>& body) {
    if (::pipe2(to_child_.data(), O_CLOEXEC) != 0 || ::pipe2(from_child_.data(), O_CLOEXEC) != 0) {
        throw std::system_error(errno, std::generic_category(), "pipe");
    }
    pid_ = ::fork();
    if (pid_ < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::close(to_child_[1]);
        ::close(from_child_[0]);
        int status = 99;
        try {
            status = body(Line(to_child_[0], from_child_[1]));
        } catch (const std::exception& e) {
            std::fprintf(stderr, "child: %s\n", e.what());
        }
        ::_exit(status);
    }
    ::close(to_child_[0]);
    ::close(from_child_[1]);
    line_ = Line(from_child_[0], to_child_[1]);
}

Child::~Child() {
    if (pid_ > 0) {
        signal(SIGKILL);
        wait();
    }
    ::close(to_child_[1]);
    ::close(from_child_[0]);
}

void Child::signal(int number) const { ::kill(pid_, number); }

int Child::wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace mempool_test
