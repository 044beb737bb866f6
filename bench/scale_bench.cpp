// scale_bench: what a pool of a million slots costs to make, to attach to, and to clean up after a
// client that was killed. Prints one line for each.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fstream>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <thread>
#include <vector>

#include "daemon.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// Memory of this process that no other shares, in KiB.
long private_kib() {
    std::ifstream file("/proc/self/smaps_rollup");
    long sum = 0;
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("Private_", 0) == 0) {
            sum += std::stol(line.substr(line.find(':') + 1));
        }
    }
    return sum;
}

/// Attaches, says what that cost in memory, and holds 1000 slots until it is killed.
[[noreturn]] void hold(const std::string& pool, const mempool::AttachOptions& options) {
    const long before = private_kib();
    auto client = mempool::Client::attach(pool, options);
    client.get().reset();
    std::printf("second client, private memory   %8ld KiB\n", private_kib() - before);
    std::fflush(stdout);
    std::vector<mempool::Slot> slots(1000);
    if (client.get_bulk(slots) != slots.size()) {
        std::fputs("scale_bench: the pool is exhausted\n", stderr);
    }
    for (;;) {
        ::pause();
    }
}

void measure() {
    const std::string pool = "scale-" + std::to_string(::getpid());
    const auto start = Clock::now();
    const bench::Daemon daemon(pool + ":64x1000000");
    const mempool::AttachOptions options{.socket = daemon.socket()};
    auto first = mempool::Client::attach(pool, options);
    std::printf("start to first client           %8.2f ms\n", milliseconds_since(start));

    std::array<double, 21> attach{};
    for (double& one : attach) {
        // The daemon looks through all words when a client leaves: let it.
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
        const auto begin = Clock::now();
        const auto client = mempool::Client::attach(pool, options);
        one = milliseconds_since(begin);
    }
    std::sort(attach.begin(), attach.end());
    std::printf("attach, median of 21            %8.2f ms\n", attach[attach.size() / 2]);
    std::fflush(stdout);

    const pid_t child = ::fork();
    if (child == 0) {
        hold(pool, options);
    }
    const auto inspector = mempool::Inspector::open(pool, options);
    while (inspector.status().held < 1000) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    const auto killed = Clock::now();
    ::kill(child, SIGKILL);
    while (inspector.status().held != 0) {
    }
    std::printf("kill to 1000 slots taken back   %8.2f ms\n", milliseconds_since(killed));
    ::waitpid(child, nullptr, 0);
    const mempool::PoolStatus status = inspector.status();
    std::printf("metadata a slot                 %8.2f bytes\n",
                static_cast<double>(status.metadata_bytes) / static_cast<double>(status.slots));
}

}  // namespace

int main() {
    try {
        measure();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "scale_bench: %s\n", error.what());
        return 1;
    }
}
