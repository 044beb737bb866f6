#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <new>

#include "figures/figures.hpp"
#include "harness/parties.hpp"

namespace bench {

namespace {

constexpr std::uint32_t kRounds = 100;
/// Long enough for the other to be asleep.
constexpr useconds_t kPauseMicroseconds = 500;
constexpr std::chrono::seconds kLongest{2};

/// What the sleeper and the waker share.
struct Shared {
    std::atomic<std::uint32_t> turn;    ///< the futex word: rounds woken
    std::atomic<std::uint32_t> asleep;  ///< rounds the sleeper has begun
    std::atomic<std::uint64_t> handle;  ///< the pool's one slot, in the waker's hands
    std::atomic<Clock::rep> woke_at;
};

Shared* make_shared() { return new (shared_memory(sizeof(Shared))) Shared{}; }

Clock::rep now() { return Clock::now().time_since_epoch().count(); }

/// Microseconds from `wake(round)` to its sleeper's awakening, median. The sleeper announces each
/// round.
template <typename Wake>
double time_wakes(Shared& shared, Wake wake) {
    std::vector<double> samples;
    for (std::uint32_t round = 1; round <= kRounds; ++round) {
        const auto deadline = Clock::now() + kLongest;
        while (shared.asleep.load() < round) {
            if (Clock::now() > deadline) {
                throw std::runtime_error("the sleeper does not sleep");
            }
            ::usleep(50);
        }
        ::usleep(kPauseMicroseconds);
        shared.woke_at.store(0);
        const Clock::rep before = now();
        wake(round);
        Clock::rep woke = 0;
        while ((woke = shared.woke_at.load()) == 0) {
            if (Clock::now() > deadline) {
                throw std::runtime_error("the sleeper does not wake");
            }
            ::usleep(20);
        }
        samples.push_back(
            std::chrono::duration<double, std::micro>(Clock::duration(woke - before)).count());
    }
    return median(samples);
}

void sleep_on_futex(Shared& shared) {
    for (std::uint32_t round = 1; round <= kRounds; ++round) {
        shared.asleep.store(round);
        while (shared.turn.load() < round) {
            ::syscall(SYS_futex, &shared.turn, FUTEX_WAIT, round - 1, nullptr, nullptr, 0);
        }
        shared.woke_at.store(now());
    }
}

/// Gets the slot, each time it is returned, and passes it to the waker by its handle.
void sleep_in_get_for(const Daemon& daemon, Shared& shared) {
    auto client = daemon.attach();
    for (std::uint32_t round = 0; round <= kRounds; ++round) {
        shared.asleep.store(round);
        mempool::Slot slot = client.get_for(kLongest);
        const Clock::rep woke = now();
        if (!slot) {
            throw std::runtime_error("get_for was not woken");
        }
        shared.handle.store(slot.release().value());
        shared.woke_at.store(woke);
    }
}

}  // namespace

double wake_by_futex() {
    Shared& shared = *make_shared();
    const Child sleeper([&] { sleep_on_futex(shared); });
    return time_wakes(shared, [&](std::uint32_t round) {
        shared.turn.store(round);
        ::syscall(SYS_futex, &shared.turn, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    });
}

double wake_by_put() {
    const Daemon daemon("bench-wake", 64, 1);
    Shared& shared = *make_shared();
    const Child sleeper([&] { sleep_in_get_for(daemon, shared); });
    auto client = daemon.attach();
    return time_wakes(shared, [&](std::uint32_t /*round*/) {
        client.put(mempool::Handle(shared.handle.load()));
    });
}

double wake_ratio() { return wake_by_put() / wake_by_futex(); }

}  // namespace bench
