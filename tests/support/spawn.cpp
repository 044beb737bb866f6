#include "support/spawn.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace mempool_test {

pid_t spawn(const std::string& program, std::vector<std::string> arguments,
            const std::function<void()>& in_child) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) {
            ::_exit(125);
        }
        if (in_child) {
            in_child();
        }
        ::execv(program.c_str(), argv.data());
        ::_exit(126);
    }
    return child;
}

}  // namespace mempool_test
