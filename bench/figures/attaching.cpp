#include <unistd.h>

#include <atomic>
#include <fstream>
#include <mempool/inspect.hpp>
#include <new>
#include <string>

#include "figures/figures.hpp"
#include "harness/parties.hpp"

namespace bench {

namespace {

constexpr std::size_t kSlots = 1'000'000;

constexpr const char* kStem = "bench-attach";

/// Memory of this process that no other shares, in KiB.
long private_kib() {
    std::ifstream file("/proc/self/smaps_rollup");
    long sum = 0;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("Private_")) {
            sum += std::stol(line.substr(line.find(':') + 1));
        }
    }
    return sum;
}

}  // namespace

double start_to_first_client() {
    const auto start = Clock::now();
    const Daemon daemon(kStem, 64, kSlots);
    const auto client = daemon.attach();
    return microseconds_since(start);
}

double attach() {
    const Daemon daemon(kStem, 64, kSlots);
    std::vector<double> samples;
    for (int k = 0; k < 11; ++k) {
        const auto start = Clock::now();
        const auto client = daemon.attach();
        samples.push_back(microseconds_since(start));
        // The daemon looks through all words when a client leaves: let it.
        ::usleep(50'000);
    }
    return median(samples);
}

double client_memory_kib() {
    const Daemon daemon(kStem, 64, kSlots);
    auto first = daemon.attach();
    first.get().reset();
    auto& kib = *new (shared_memory(sizeof(std::atomic<long>))) std::atomic<long>{-1};
    // Another process: what the first attachment cost this one is not part of it.
    const Child second([&] {
        const long before = private_kib();
        auto client = daemon.attach();
        client.get().reset();
        kib.store(private_kib() - before);
    });
    for (int k = 0; kib.load() < 0 && k < 2000; ++k) {
        ::usleep(1000);
    }
    return static_cast<double>(kib.load());
}

double metadata_bytes() {
    const Daemon daemon(kStem, 64, kSlots);
    const auto status = mempool::Inspector::open(daemon.pool(), daemon.options()).status();
    return static_cast<double>(status.metadata_bytes) / static_cast<double>(status.slots);
}

}  // namespace bench
