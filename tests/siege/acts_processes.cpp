// Who asks: processes that stop, die, fork, execute or hide in the middle of a conversation, and
// what they try on the daemon's own process.
#include <fcntl.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "siege/acts.hpp"
#include "siege/attacker.hpp"
#include "siege/connection.hpp"

namespace mempool_test {

namespace {

using namespace std::chrono_literals;
using mempool::shm::send_message;

// Asks for the pool that it has no right on.
bool ask_for_work(Attacker& a) {
    Connection connection(a.scene().socket);
    return connection.ask_in_vain(a, request_of(RequestKind::kAttach, a.scene().work_pool));
}

bool die_after_asking(Attacker& a) {
    return a.in_child(1s, [&a] {
        Connection connection(a.scene().socket);
        connection.send(request_of(RequestKind::kAttach, a.scene().work_pool));
        ::raise(SIGKILL);
        return true;
    });
}

bool stop_after_asking(Attacker& a) {
    return a.in_child(800ms, [&a] {
        Connection connection(a.scene().socket);
        connection.send(request_of(RequestKind::kAttach, a.scene().work_pool));
        ::raise(SIGSTOP);  // until it is killed
        return true;
    });
}

bool exec_with_connection(Attacker& a) {
    return a.in_child(800ms, [&a] {
        Connection connection(a.scene().socket);
        connection.send(request_of(RequestKind::kAttach, a.scene().work_pool));
        ::fcntl(connection.fd(), F_SETFD, 0);
        ::execl("/bin/sleep", "sleep", "1", nullptr);
        return false;
    });
}

// The parent goes, its child goes on with the connection.
bool fork_with_connection(Attacker& a) {
    return a.in_child(800ms, [&a] {
        Connection connection(a.scene().socket);
        if (::fork() == 0) {
            ::alarm(2);
            for (int k = 0; k < 5; ++k) {
                connection.ask_in_vain(a, request_of(RequestKind::kAttach, a.scene().work_pool));
                std::this_thread::sleep_for(50ms);
            }
            ::_exit(0);
        }
        return connection.open();
    });
}

bool ask_from_namespaces(Attacker& a) {
    return a.in_namespaces(1500ms, [&a] { ask_for_work(a); });
}

bool ask_within_limits(Attacker& a) {
    return a.in_child(1s, [&a] {
        const rlimit few{64, 64};
        const rlimit none{0, 0};
        ::setrlimit(RLIMIT_NOFILE, &few);
        ::setrlimit(RLIMIT_FSIZE, &none);
        ::setrlimit(RLIMIT_MEMLOCK, &none);
        Connection connection(a.scene().socket);
        return connection.open() &&
               connection.ask_in_vain(a, request_of(RequestKind::kAttach, a.scene().work_pool));
    });
}

bool signal_the_daemon(Attacker& a) {
    const pid_t daemon = a.scene().daemon;
    for (const int signal : {SIGTERM, SIGKILL, SIGSTOP, SIGHUP}) {
        ::kill(daemon, signal);
    }
    const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, daemon, 0)));
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGTERM, nullptr, 0);
    for (int fd = 3; fd < 12; ++fd) {
        const UniqueFd stolen(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), fd, 0)));
        if (stolen) {
            a.breach("took a descriptor of the daemon");
        }
    }
    return true;
}

bool tamper_with_the_daemon(Attacker& a) {
    const pid_t daemon = a.scene().daemon;
    const std::string proc = "/proc/" + std::to_string(daemon);
    for (const char* file : {"/mem", "/maps", "/fd/3", "/environ", "/root", "/oom_score_adj"}) {
        const UniqueFd fd(::open((proc + file).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    }
    const rlimit few{4, 4};
    ::prlimit(daemon, RLIMIT_NOFILE, &few, nullptr);
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(daemon), 19);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    ::sched_setaffinity(daemon, sizeof(one), &one);
    ::ptrace(PTRACE_SEIZE, daemon, nullptr, nullptr);
    return true;
}

// A daemon of its own that shall serve pools of the same names, and remove them at its end.
bool run_a_daemon(Attacker& a) {
    return a.in_child(1500ms, [&a] {
        std::string directory = a.scene().scratch + "/daemon.XXXXXX";
        if (::mkdtemp(directory.data()) == nullptr) {
            return false;
        }
        const std::string socket = directory + "/m.sock";
        const std::string work = a.scene().work_pool + ":64x64,allow_users=*";
        const std::string open = a.scene().open_pool + ":64x64,allow_users=*";
        const pid_t daemon = Attacker::fork_again(2s);
        if (daemon == 0) {
            const UniqueFd null(::open("/dev/null", O_RDWR));
            ::dup2(null.get(), STDOUT_FILENO);
            ::dup2(null.get(), STDERR_FILENO);
            const std::array<const char*, 9> arguments = {
                "mempoold", "--socket",   socket.c_str(),     "--pool", work.c_str(),
                "--pool",   open.c_str(), "--remove-on-exit", nullptr};
            const std::array<const char*, 1> environment = {nullptr};
            ::syscall(SYS_execveat, a.scene().mempoold, "", arguments.data(), environment.data(),
                      AT_EMPTY_PATH);
            ::_exit(1);
        }
        std::this_thread::sleep_for(700ms);
        ::kill(daemon, SIGTERM);
        return ::waitpid(daemon, nullptr, 0) == daemon;
    });
}

constexpr std::array kProcessActs = {
    Act{"process: dies asking", Who::kStranger, die_after_asking},
    Act{"process: stops asking", Who::kStranger, stop_after_asking},
    Act{"process: exec", Who::kStranger, exec_with_connection},
    Act{"process: fork", Who::kStranger, fork_with_connection},
    Act{"process: namespaces", Who::kStranger, ask_from_namespaces, true},
    Act{"process: limits", Who::kStranger, ask_within_limits},
    Act{"daemon: signals", Who::kStranger, signal_the_daemon},
    Act{"daemon: tamper", Who::kStranger, tamper_with_the_daemon},
    Act{"daemon: one of its own", Who::kStranger, run_a_daemon},
};

}  // namespace

std::span<const Act> process_acts() { return kProcessActs; }

}  // namespace mempool_test
