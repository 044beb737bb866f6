// pool_bench: what a slot costs, beside the peers, in one run.
//
// Each figure is the time of one get and one put in nanoseconds, measured in processes forked for
// it. The repetitions of all benchmarks are interleaved at random, so that a machine that changes
// its speed does so for all of them; the table at the end is of medians and their ratios.
#include <benchmark/benchmark.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "daemon.hpp"
#include "peers.hpp"
#include "processes.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPairs = 400'000;
constexpr int kHandOvers = 100'000;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A queue of tokens from one process to one other, the same for all peers.
struct TokenQueue {
    static constexpr std::size_t kCapacity = 1024;
    alignas(64) std::atomic<std::uint64_t> head;
    alignas(64) std::atomic<std::uint64_t> tail;
    alignas(64) std::array<std::uint64_t, kCapacity> tokens;

    void push(std::uint64_t token) {
        const std::uint64_t t = tail.load(std::memory_order_relaxed);
        while (t - head.load(std::memory_order_acquire) == kCapacity) {
            ::sched_yield();
        }
        tokens[t % kCapacity] = token;
        tail.store(t + 1, std::memory_order_release);
    }
    std::uint64_t pop() {
        const std::uint64_t h = head.load(std::memory_order_relaxed);
        while (tail.load(std::memory_order_acquire) == h) {
            ::sched_yield();
        }
        const std::uint64_t token = tokens[h % kCapacity];
        head.store(h + 1, std::memory_order_release);
        return token;
    }
};

template <typename Peer>
void pair_loop(Peer& peer, int pairs) {
    for (int k = 0; k < pairs; ++k) {
        auto item = peer.get();
        benchmark::DoNotOptimize(Peer::data(item));
        peer.put(std::move(item));
    }
}

/// Seconds a get+put pair takes in each of `processes` that do nothing else, all at once.
template <typename MakePeer>
double time_pairs(int processes, const MakePeer& make_peer) {
    return run_processes(processes,
                         [&](int, Barrier& barrier) {
                             auto peer = make_peer();
                             pair_loop(peer, kPairs / 10);
                             meet(barrier);
                             const auto start = Clock::now();
                             pair_loop(peer, kPairs);
                             return seconds_since(start);
                         }) /
           kPairs;
}

/// Seconds a slot takes from a get in one process to a put in another, one by one.
template <typename MakePeer>
double time_hand_over(const MakePeer& make_peer) {
    auto* queue = new (shared_memory(sizeof(TokenQueue))) TokenQueue{};
    return run_processes(2,
                         [&](int index, Barrier& barrier) {
                             auto peer = make_peer();
                             meet(barrier);
                             const auto start = Clock::now();
                             for (int k = 0; k < kHandOvers; ++k) {
                                 if (index == 1) {
                                     peer.put_sent(queue->pop());
                                     continue;
                                 }
                                 auto item = peer.get();
                                 while (std::decay_t<decltype(peer)>::data(item) == nullptr) {
                                     ::sched_yield();
                                     item = peer.get();
                                 }
                                 queue->push(peer.send(item));
                             }
                             return seconds_since(start);
                         }) /
           kHandOvers;
}

/// Prints the usual table, keeps the medians, and ends with the ratios.
class RatioReporter : public benchmark::ConsoleReporter {
public:
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.run_type == Run::RT_Aggregate && run.aggregate_name == "median") {
                median_ns_[run.run_name.function_name] = run.GetAdjustedRealTime();
            }
        }
        ConsoleReporter::ReportRuns(runs);
    }

    void print_ratios() const {
        std::printf("\n%-42s %9s   %s\n", "median of one run, side by side", "ns/slot",
                    "how many times mempool's");
        for (const char* what : {"pair_one_process", "pair_two_processes", "hand_over"}) {
            const double own = at(std::string(what) + "/mempool");
            for (const char* peer : {"mempool", "mempool_by_handle", "malloc",
                                     "managed_shared_memory", "mutex_ring"}) {
                const double ns = at(std::string(what) + "/" + peer);
                if (ns > 0 && own > 0) {
                    std::printf("%-42s %9.1f   %8.2f\n", (std::string(what) + "/" + peer).c_str(),
                                ns, ns / own);
                }
            }
        }
        const double one = at("pair_one_process/mempool");
        if (one > 0) {
            std::printf("two processes at once, against one alone: %.2f\n",
                        at("pair_two_processes/mempool") / one);
        }
    }

private:
    [[nodiscard]] double at(const std::string& name) const {
        const auto found = median_ns_.find(name);
        return found == median_ns_.end() ? 0 : found->second;
    }
    std::map<std::string, double> median_ns_;
};

void add(const std::string& name, std::function<double()> measure) {
    benchmark::RegisterBenchmark(name.c_str(),
                                 [measure = std::move(measure)](benchmark::State& state) {
                                     for (auto _ : state) {
                                         state.SetIterationTime(measure());
                                     }
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kNanosecond);
}

template <typename MakePeer>
void add_pairs(const std::string& peer, MakePeer make_peer) {
    add("pair_one_process/" + peer, [=] { return time_pairs(1, make_peer); });
    add("pair_two_processes/" + peer, [=] { return time_pairs(2, make_peer); });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    using namespace bench;
    std::vector<char*> arguments(argv, argv + argc);
    std::string repetitions = "--benchmark_repetitions=9";
    std::string interleave = "--benchmark_enable_random_interleaving=true";
    std::string aggregates = "--benchmark_display_aggregates_only=true";
    arguments.insert(arguments.begin() + 1,
                     {repetitions.data(), interleave.data(), aggregates.data()});
    int count = static_cast<int>(arguments.size());
    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) {
        return 2;
    }
    const std::string name = "bench-" + std::to_string(::getpid());
    const Daemon daemon(name + ":" + std::to_string(kSlotBytes) + "x" + std::to_string(kSlots));
    const std::string managed = "pool_bench." + std::to_string(::getpid());
    Managed::create(managed);
    MutexRing::Shared* ring = MutexRing::create();

    const auto mempool_peer = [socket = daemon.socket(), name] { return Mempool(socket, name); };
    const auto malloc_peer = [] { return Malloc(); };
    const auto managed_peer = [managed] { return Managed(managed); };
    const auto ring_peer = [ring] { return MutexRing(ring); };
    const auto by_handle_peer = [socket = daemon.socket(), name] {
        return MempoolByHandle(socket, name);
    };
    add_pairs("mempool", mempool_peer);
    add_pairs("mempool_by_handle", by_handle_peer);
    add_pairs("malloc", malloc_peer);
    add_pairs("managed_shared_memory", managed_peer);
    add_pairs("mutex_ring", ring_peer);
    add("hand_over/mempool", [=] { return time_hand_over(mempool_peer); });
    add("hand_over/managed_shared_memory", [=] { return time_hand_over(managed_peer); });
    add("hand_over/mutex_ring", [=] { return time_hand_over(ring_peer); });

    RatioReporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    reporter.print_ratios();
    Managed::remove(managed);
    return 0;
}
