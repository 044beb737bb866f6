#include "harness/daemon.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace bench {

namespace {

// By which tests/dev_shm.sh finds what a test of the benchmark left behind; the process id follows,
// as there.
std::string tagged(const std::string& stem) {
    const char* const tag = std::getenv("MEMPOOL_TEST_TAG");
    return stem + (tag != nullptr ? std::string("-") + tag : "") + "-" + std::to_string(::getpid());
}

}  // namespace

Daemon::Daemon(const std::string& stem, std::size_t slot_bytes, std::size_t slots,
               const std::string& keys)
    : pool_(tagged(stem)),
      directory_((std::filesystem::temp_directory_path() / "mempool-bench.XXXXXX").string()),
      parent_(::getpid()) {
    if (::mkdtemp(directory_.data()) == nullptr) {
        throw std::system_error(errno, std::generic_category(), "mkdtemp");
    }
    const std::string spec =
        pool_ + ":" + std::to_string(slot_bytes) + "x" + std::to_string(slots) + keys;
    pid_ = ::fork();
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        // It says when it is ready. The rest is of interest only if it doesn't start.
        const int log = ::open(log_path().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ::dup2(log, STDOUT_FILENO);
        ::dup2(log, STDERR_FILENO);
        ::execl(MEMPOOLD_PATH, MEMPOOLD_PATH, "--socket", socket().c_str(), "--pool", spec.c_str(),
                "--remove-on-exit", "--log-level", "warning", nullptr);
        std::perror("bench: " MEMPOOLD_PATH);
        std::_Exit(127);
    }
    while (log().find(" ready") == std::string::npos) {
        if (::waitpid(pid_, nullptr, WNOHANG) != 0) {
            throw std::runtime_error("mempoold did not start: " + log());
        }
        ::usleep(1000);
    }
}

std::string Daemon::log() const {
    std::ifstream file(log_path());
    return {std::istreambuf_iterator<char>(file), {}};
}

Daemon::~Daemon() {
    if (::getpid() != parent_) {
        return;  // a forked party: the daemon is its parent's
    }
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

}  // namespace bench
