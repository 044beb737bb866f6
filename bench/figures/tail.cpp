#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <thread>

#include "figures/figures.hpp"

namespace bench {

namespace {

constexpr std::size_t kTailSlots = 8192;
constexpr std::size_t kTailOut = 256;  // at once: some magazines, so that the depot is used
constexpr std::size_t kTailCalls = 500'000;
constexpr std::size_t kTailStep = 10'000;
constexpr std::array<double, 4> kTailParts = {0.5, 0.99, 0.999, 0.9999};

// Nanoseconds of each call, with the two looks at the clock.
struct Calls {
    std::vector<float> get;
    std::vector<float> put;
};

float nanoseconds_since(Clock::time_point start) {
    return std::chrono::duration<float, std::nano>(Clock::now() - start).count();
}

void get_and_put(mempool::Client& client, std::vector<mempool::Slot>& slots, Calls* calls) {
    for (mempool::Slot& slot : slots) {
        const auto start = Clock::now();
        slot = client.get();
        const float time = nanoseconds_since(start);
        if (!slot) {
            throw std::runtime_error("the pool is exhausted");
        }
        if (calls != nullptr) {
            calls->get.push_back(time);
        }
    }
    for (mempool::Slot& slot : slots) {
        const auto start = Clock::now();
        client.put(std::move(slot));
        const float time = nanoseconds_since(start);
        if (calls != nullptr) {
            calls->put.push_back(time);
        }
    }
}

Calls measure(mempool::Client& client) {
    Calls calls;
    calls.get.reserve(kTailCalls + kTailOut);
    calls.put.reserve(kTailCalls + kTailOut);
    std::vector<mempool::Slot> slots(kTailOut);
    for (int warm = 0; warm < 100; ++warm) {
        get_and_put(client, slots, nullptr);
    }
    while (calls.get.size() < kTailCalls) {
        get_and_put(client, slots, &calls);
    }
    return calls;
}

Calls alone() {
    const Daemon daemon("bench-tail", 64, kTailSlots);
    auto client = daemon.attach();
    return measure(client);
}

Calls beside_another() {
    const Daemon daemon("bench-tail", 64, kTailSlots);
    const Child other([&] {
        auto client = daemon.attach();
        std::vector<mempool::Slot> slots(kTailOut);
        for (;;) {
            get_and_put(client, slots, nullptr);
        }
    });
    auto client = daemon.attach();
    return measure(client);
}

Calls while_it_grows() {
    const Daemon daemon("bench-tail", 64, kTailSlots,
                        ",max_slots=" + std::to_string(kTailSlots + 200 * kTailStep));
    auto client = daemon.attach();
    std::atomic<bool> over{false};
    std::thread grower([&] {
        auto admin = mempool::Admin::connect(daemon.options());
        while (!over.load() && admin.grow(daemon.pool(), kTailStep) != 0) {
        }
    });
    Calls calls = measure(client);
    over.store(true);
    grower.join();
    return calls;
}

void print(const char* what, std::vector<float> times) {
    std::sort(times.begin(), times.end());
    std::printf("| %s |", what);
    for (const double part : kTailParts) {
        std::printf(" %.0f |",
                    times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))]);
    }
    std::printf(" %.0f |\n", times.back());
}

}  // namespace

void print_tails() {
    std::printf(
        "| single calls, ns, each with two looks at the clock | p50 | p99 | p99.9 | p99.99 | max "
        "|\n");
    std::printf("|---|---|---|---|---|---|\n");
    std::vector<float> clock(kTailCalls);
    for (float& time : clock) {
        time = nanoseconds_since(Clock::now());
    }
    print("nothing, which is what the clock takes", clock);
    const auto show = [](const std::string& how, const Calls& calls) {
        print(("get " + how).c_str(), calls.get);
        print(("put " + how).c_str(), calls.put);
    };
    show("alone", alone());
    show("beside a process that does the same", beside_another());
    show("while the pool grows, again and again", while_it_grows());
}

}  // namespace bench
