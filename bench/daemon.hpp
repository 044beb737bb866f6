// A mempoold of the benchmark's own.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace bench {

/// A mempoold of its own for the run; gone, with its pool, at the end.
class Daemon {
public:
    /// `spec` as for mempoold --pool. Returns when it listens; exits the program if it does not.
    explicit Daemon(const std::string& spec) {
        std::string directory = "/tmp/mempool-bench.XXXXXX";
        if (::mkdtemp(directory.data()) == nullptr) {
            std::perror("bench: mkdtemp");
            std::exit(1);
        }
        directory_ = directory;
        pid_ = ::fork();
        if (pid_ == 0) {
            ::execl(MEMPOOLD_PATH, MEMPOOLD_PATH, "--socket", socket().c_str(), "--pool",
                    spec.c_str(), "--remove-on-exit", "--log-level", "warning", nullptr);
            std::perror("bench: " MEMPOOLD_PATH);
            std::_Exit(127);
        }
        while (::access(socket().c_str(), F_OK) != 0) {
            if (::waitpid(pid_, nullptr, WNOHANG) != 0) {
                std::fprintf(stderr, "bench: mempoold did not start\n");
                std::exit(1);
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{5});
        }
    }
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon() {
        ::kill(pid_, SIGTERM);
        ::waitpid(pid_, nullptr, 0);
        for (const char* left : {"/mempoold.sock", "/mempoold.lock"}) {
            ::unlink((directory_ + left).c_str());
        }
        ::rmdir(directory_.c_str());
    }
    [[nodiscard]] std::string socket() const { return directory_ + "/mempoold.sock"; }

private:
    std::string directory_;
    pid_t pid_ = -1;
};

}  // namespace bench
