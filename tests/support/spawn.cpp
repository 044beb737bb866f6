#include "support/spawn.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <mempool/shm/words/unique_fd.hpp>
#include <system_error>

namespace mempool_test {

bool become_user(uid_t id) {
    return ::setgroups(0, nullptr) == 0 && ::setresgid(id, id, id) == 0 &&
           ::setresuid(id, id, id) == 0;
}

pid_t spawn(const std::string& program, std::vector<std::string> arguments,
            const std::function<void()>& in_child) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    const mempool::shm::UniqueFd file(::open(program.c_str(), O_PATH | O_CLOEXEC));
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (in_child) {
            in_child();
        }
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // again: a change of user clears it
        if (::getppid() != parent) {
            ::_exit(125);
        }
        ::execv(program.c_str(), argv.data());
        ::syscall(SYS_execveat, file.get(), "", argv.data(), environ, AT_EMPTY_PATH);
        ::_exit(126);
    }
    return child;
}

}  // namespace mempool_test
