#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <mempool/inspect.hpp>
#include <new>

#include "figures/figures.hpp"
#include "harness/parties.hpp"

namespace bench {

double steal() {
    constexpr std::size_t kSlots = 8192;
    const Daemon daemon("bench-steal", 64, kSlots);
    auto& ready = *new (shared_memory(sizeof(std::atomic<int>))) std::atomic<int>{0};

    // The victim leaves its caches full and does nothing more.
    const Child victim([&] {
        auto client = daemon.attach();
        std::vector<mempool::Slot> slots(256);
        if (client.get_bulk(slots) == slots.size() && client.put_bulk(slots) == slots.size()) {
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
    const auto cached = mempool::Inspector::open(daemon.pool(), daemon.options()).status().cached;
    if (cached == 0) {
        throw std::runtime_error("the victim caches nothing");
    }
    auto client = daemon.attach();
    std::vector<mempool::Slot> slots(kSlots - cached);
    for (mempool::Slot& slot : slots) {
        slot = client.get();
        if (!slot) {
            throw std::runtime_error("the depot held less than it should");
        }
    }
    const auto start = Clock::now();
    const mempool::Slot stolen = client.get();
    const double time = microseconds_since(start);
    if (!stolen) {
        throw NotSupported("a get does not take what lies in others' caches");
    }
    return time;
}

}  // namespace bench
