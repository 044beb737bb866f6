#include <unistd.h>

#include <atomic>
#include <new>

#include "figures/figures.hpp"
#include "harness/parties.hpp"

namespace bench {

namespace {

constexpr std::size_t kHeld = 1000;

/// Gets slots and forgets them, until none is left or `most` are got; the daemon takes them back at
/// the end. How many.
std::size_t take(mempool::Client& client, std::size_t most, std::chrono::milliseconds wait) {
    std::size_t taken = 0;
    for (; taken < most; ++taken) {
        mempool::Slot slot = client.get();
        if (!slot && wait.count() > 0) {
            slot = client.get_for(wait);
        }
        if (!slot) {
            break;
        }
        slot.release();
    }
    return taken;
}

/// A client takes all that another, which holds 1000 slots, left; then that one is killed.
double reclaim(std::size_t slots) {
    const Daemon daemon("bench-reclaim", 64, slots);
    auto& ready = *new (shared_memory(sizeof(std::atomic<int>))) std::atomic<int>{0};
    Child victim([&] {
        auto client = daemon.attach();
        if (take(client, kHeld, {}) == kHeld) {
            ready.store(1);
        }
        for (;;) {
            ::pause();
        }
    });
    for (int k = 0; ready.load() == 0; ++k) {
        if (k == 2000) {
            throw std::runtime_error("the victim is not ready");
        }
        ::usleep(1000);
    }
    auto client = daemon.attach();
    take(client, slots, {});
    const auto start = Clock::now();
    victim.kill();
    if (take(client, kHeld, std::chrono::seconds{5}) != kHeld) {
        throw std::runtime_error("not all slots came back");
    }
    return microseconds_since(start);
}

}  // namespace

double reclaim_10k() { return reclaim(10'000); }
double reclaim_100k() { return reclaim(100'000); }
double reclaim_1m() { return reclaim(1'000'000); }

}  // namespace bench
