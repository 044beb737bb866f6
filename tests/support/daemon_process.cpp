#include "support/daemon_process.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "support/spawn.hpp"

namespace mempool_test {

namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kPause{2};

std::string read_file(const std::string& path, std::size_t from = 0) {
    std::ifstream file(path, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(from));
    return {std::istreambuf_iterator<char>(file), {}};
}

int open_for_writing(const std::string& path) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

using Passed = std::vector<std::pair<std::string, mempool::shm::UniqueFd>>;

// In the child: sd_listen_fds_with_names(3) finds them.
void pass_on(const Passed& passed) {
    constexpr int kFirst = 3;
    const auto count = static_cast<int>(passed.size());
    std::string names;
    std::vector<int> copies;
    for (const auto& [name, fd] : passed) {
        names += (names.empty() ? "" : ":") + name;
        copies.push_back(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirst + count));
    }
    for (int k = 0; k < count; ++k) {
        ::dup2(copies[static_cast<std::size_t>(k)], kFirst + k);
    }
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
}

pid_t spawn_mempoold(const std::string& program, std::vector<std::string> arguments,
                     const std::string& out, const std::string& err, uid_t user = 0,
                     const Passed& passed = {}) {
    arguments.insert(arguments.begin(), program);
    return spawn(program, std::move(arguments), [&] {
        ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        if (!out.empty()) {
            ::dup2(open_for_writing(out), STDOUT_FILENO);
        }
        ::dup2(open_for_writing(err), STDERR_FILENO);
        if (user != 0 && !become_user(user)) {
            ::_exit(124);
        }
        if (!passed.empty()) {
            pass_on(passed);
        }
    });
}

int reap(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            throw std::system_error(errno, std::generic_category(), "waitpid");
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

TemporaryDirectory::TemporaryDirectory()
    : path_((std::filesystem::temp_directory_path() / "mempool-test.XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) {
        throw std::system_error(errno, std::generic_category(), "mkdtemp " + path_);
    }
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

DaemonProcess::DaemonProcess() : program_(MEMPOOLD_PATH) {}

DaemonProcess::~DaemonProcess() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    if (::testing::Test::HasFailure()) {
        std::cerr << "---- stderr of mempoold\n" << log() << "----\n";
    }
}

void DaemonProcess::run_program(std::string path) { program_ = std::move(path); }

void DaemonProcess::pass(Passed descriptors) { passed_ = std::move(descriptors); }

void DaemonProcess::run_as(uid_t id) {
    if (::chown(directory_.path().c_str(), id, id) != 0 ||
        ::chmod(directory_.path().c_str(), 0755) != 0) {
        throw std::system_error(errno, std::generic_category(), "chown " + directory_.path());
    }
    user_ = id;
}

void DaemonProcess::launch(std::vector<std::string> arguments) {
    if (pid_ > 0) {
        throw std::logic_error("a daemon of this object still runs");
    }
    arguments_ = std::move(arguments);
    log_start_ = log().size();
    std::vector<std::string> all = arguments_;
    all.insert(all.begin(), {"--socket", socket_path_});
    pid_ = spawn_mempoold(program_, std::move(all), log_path_, log_path_, user_, passed_);
}

void DaemonProcess::start(std::vector<std::string> arguments) {
    launch(std::move(arguments));
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (last_log().find(" ready: ") == std::string::npos) {
        if (!is_running()) {
            throw std::runtime_error("mempoold ended instead of getting ready:\n" + last_log());
        }
        if (std::chrono::steady_clock::now() > deadline) {
            throw std::runtime_error("mempoold does not get ready:\n" + last_log());
        }
        std::this_thread::sleep_for(kPause);
    }
}

void DaemonProcess::restart() { start(std::vector<std::string>(arguments_)); }

void DaemonProcess::wait_for_log(const std::string& text) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (log().find(text) == std::string::npos) {
        if (std::chrono::steady_clock::now() > deadline) {
            throw std::runtime_error("mempoold never logged '" + text + "' but:\n" + log());
        }
        std::this_thread::sleep_for(kPause);
    }
}

void DaemonProcess::send(int signal) const {
    if (pid_ <= 0) {
        throw std::logic_error("no daemon of this object runs");
    }
    ::kill(pid_, signal);
}

void DaemonProcess::kill9() {
    send(SIGKILL);
    wait();
}

int DaemonProcess::terminate() {
    send(SIGTERM);
    return wait();
}

int DaemonProcess::wait() { return reap(std::exchange(pid_, -1)); }

void DaemonProcess::stop() { send(SIGSTOP); }
void DaemonProcess::cont() { send(SIGCONT); }
void DaemonProcess::reload() { send(SIGHUP); }

bool DaemonProcess::is_running() const {
    // WNOWAIT: its status stays for wait().
    siginfo_t info{};
    return pid_ > 0 &&
           ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

std::string DaemonProcess::log() const { return read_file(log_path_); }
std::string DaemonProcess::last_log() const { return read_file(log_path_, log_start_); }

Finished run_mempoold(std::vector<std::string> arguments) {
    const TemporaryDirectory directory;
    const std::string out = directory.path() + "/out";
    const std::string err = directory.path() + "/err";
    Finished finished;
    finished.status = reap(spawn_mempoold(MEMPOOLD_PATH, std::move(arguments), out, err));
    finished.out = read_file(out);
    finished.err = read_file(err);
    return finished;
}

}  // namespace mempool_test
