#include "harness/parties.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace bench {

namespace {

/// What the processes of one run share.
struct Shared {
    explicit Shared(int parties) : meeting(parties) {}
    static constexpr int kMost = 1024;
    Meeting meeting;
    double results[kMost] = {};
};

std::vector<double> run_threads(int count, const Work& work) {
    Meeting meeting(count);
    std::vector<double> results(static_cast<std::size_t>(count));
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(count));
    for (int index = 0; index < count; ++index) {
        threads.emplace_back(
            [&, index] { results[static_cast<std::size_t>(index)] = work(index, meeting); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return results;
}

[[noreturn]] void be_party(int index, const Work& work, Shared& shared) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
        shared.results[index] = work(index, shared.meeting);
        std::_Exit(0);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench: party %d: %s\n", index, e.what());
        std::_Exit(1);
    }
}

/// Waits for all; false if one failed. Kills the others then, since they may wait for it.
bool wait_for(std::vector<pid_t> children) {
    bool good = true;
    while (!children.empty()) {
        int status = 0;
        // Not any child: the peer's own (a daemon) is none of ours.
        for (auto child = children.begin(); child != children.end();) {
            const pid_t ended = ::waitpid(*child, &status, WNOHANG);
            if (ended == 0) {
                ++child;
                continue;
            }
            child = children.erase(child);
            if (ended < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                good = false;
                for (const pid_t other : children) {
                    ::kill(other, SIGKILL);
                }
            }
        }
        ::usleep(500);
    }
    return good;
}

std::vector<double> run_processes(int count, const Work& work) {
    auto* shared = new (shared_memory(sizeof(Shared))) Shared(count);
    std::vector<pid_t> children;
    children.reserve(static_cast<std::size_t>(count));
    for (int index = 0; index < count; ++index) {
        const pid_t child = ::fork();
        if (child == 0) {
            be_party(index, work, *shared);
        }
        children.push_back(child);
    }
    if (!wait_for(std::move(children))) {
        throw std::runtime_error("a measuring process failed");
    }
    std::vector<double> results(shared->results, shared->results + count);
    ::munmap(shared, sizeof(Shared));
    return results;
}

}  // namespace

std::vector<double> run_parties(Kind kind, int count, const Work& work) {
    if (count < 1 || count > Shared::kMost) {
        throw std::runtime_error("from 1 to 1024 parties");
    }
    if (count == 1) {
        Meeting meeting(1);
        return {work(0, meeting)};
    }
    return kind == Kind::kThreads ? run_threads(count, work) : run_processes(count, work);
}

void* shared_memory(std::size_t bytes) {
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "mmap");
    }
    return memory;
}

}  // namespace bench
