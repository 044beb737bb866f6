#include "siege/besieged.hpp"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <mempool/client.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace mempool_test {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kPairs = 512;
constexpr std::size_t kSlotsAtOnce = 4;

bool over(const Besieged& b) { return b.tally.stop.load(std::memory_order_relaxed) != 0; }

// Where measurements belong; none before the siege's end.
Samples* samples_of(const Besieged& b, std::array<Samples, 2>& samples) {
    const Phase phase = b.ledger.phase.load();
    return phase == Phase::kOver ? nullptr : &samples.at(static_cast<std::size_t>(phase));
}

std::optional<mempool::Client> attach(const Besieged& b) {
    Samples* const samples = samples_of(b, b.ledger.attach_us);
    const auto start = Clock::now();
    std::optional<mempool::Client> client;
    try {
        client = mempool::Client::attach(b.pool, {.socket = b.socket});
        b.tally.attached.fetch_add(1);
    } catch (const mempool::Error& e) {
        b.tally.refused.fetch_add(1);
        note(b.ledger.refusals, b.ledger.first_refusal, e.what());
    }
    if (samples != nullptr) {
        const auto took =
            std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
        samples->add(static_cast<std::uint32_t>(took.count()));
    }
    return client;
}

// Gets a slot, marks it as this process's, and returns it; whether nobody else wrote there.
bool pair(mempool::Client& client, std::uint64_t stamp) {
    mempool::Slot slot = client.get();
    if (!slot) {
        return false;
    }
    auto* word = reinterpret_cast<volatile std::uint64_t*>(slot.data() + sizeof(stamp));
    *word = stamp;
    const bool kept = *word == stamp;
    return !client.put(std::move(slot)) && kept;
}

}  // namespace

void time_pairs(const Besieged& b) {
    std::optional<mempool::Client> client = attach(b);
    std::uint64_t stamp = static_cast<std::uint64_t>(::getpid()) << 32U;
    while (client && !over(b)) {
        Samples* const samples = samples_of(b, b.ledger.pair_ps);
        bool good = true;
        const auto start = Clock::now();
        for (std::uint32_t k = 0; k < kPairs; ++k) {
            good = pair(*client, ++stamp) && good;
        }
        const auto took =
            std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
        if (!good) {
            b.tally.accuse("no slot, a stamp overwritten, or a return refused");
        }
        if (samples != nullptr) {
            samples->add(static_cast<std::uint32_t>(took.count() * 1000 / kPairs));
        }
        b.tally.gets.fetch_add(kPairs);
        std::this_thread::sleep_for(4ms);
    }
}

void time_attaches(const Besieged& b) {
    const std::uint64_t stamp = static_cast<std::uint64_t>(::getpid()) << 32U;
    while (!over(b)) {
        if (std::optional<mempool::Client> client = attach(b)) {
            std::array<mempool::Slot, kSlotsAtOnce> slots;
            for (std::size_t k = 0; k < slots.size(); ++k) {
                slots.at(k) = client->get();
                if (!slots.at(k)) {
                    b.tally.accuse("no slot");
                    break;
                }
                const std::uint64_t mine = stamp + k;
                std::memcpy(slots.at(k).data() + sizeof(mine), &mine, sizeof(mine));
            }
            std::this_thread::sleep_for(5ms);
            for (std::size_t k = 0; k < slots.size() && slots.at(k); ++k) {
                std::uint64_t found = 0;
                std::memcpy(&found, slots.at(k).data() + sizeof(found), sizeof(found));
                if (found != stamp + k || client->put(std::move(slots.at(k)))) {
                    b.tally.accuse("a stamp was overwritten, or a return refused");
                }
            }
        }
        std::this_thread::sleep_for(15ms);
    }
}

void work_and_return(const Besieged& b, const WorkerOptions& options) {
    WorkerOptions mine = options;
    while (!over(b)) {
        if (std::optional<mempool::Client> client = attach(b)) {
            Worker worker(*client, b.tally, mine);
            const auto end = Clock::now() + 1s;
            while (!over(b) && Clock::now() < end) {
                for (int k = 0; k < 40; ++k) {
                    worker.step();
                }
                std::this_thread::sleep_for(4ms);
            }
            worker.finish();
        }
        ++mine.seed;
        std::this_thread::sleep_for(10ms);
    }
}

}  // namespace mempool_test
