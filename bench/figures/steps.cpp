// What each step of a get and a put costs, in place: the common ways of both are written down once
// more, so that a step can be left out. `pair_steps` beside the pair in the table says how true
// that is.
#include <array>
#include <atomic>
#include <cstdint>
#include <mempool/shm/words/layout.hpp>
#include <mempool/shm/words/words.hpp>
#include <vector>

#include "figures/figures.hpp"
#include "harness/parties.hpp"

namespace bench {
namespace steps {
namespace {

using namespace mempool::shm;

enum Steps : unsigned {
    kWord = 1,     // FREE to HELD and back, checked, and the handle made of it
    kThieves = 2,  // busy, revoked
    kOwner = 4,    // whose lane this is, in which process
    kTime = 8,     // of the get
    kCounters = 16,
    kErase = 32,    // is the slot to be erased?
    kWaiters = 64,  // does anybody wait?
    kAddress = 128,
    kAll = 255,
};

constexpr MagazineId kMagazine{3};
constexpr std::uint32_t kCapacity = 64;
constexpr std::uint32_t kSlots = 128;

struct Magazine {
    MagazineHead head;
    std::array<std::atomic<std::uint32_t>, kCapacity> items;
};

/// The private half of a lane.
struct Lane {
    Magazine* magazine;
    Live* live;
    LaneRecord* record;
    SlotRecord* slots;
    std::uint64_t held;
    std::uint64_t get_step;
    std::uint64_t put_step;
    std::uint32_t free;
    std::uint32_t capacity;
};

struct Client {
    std::uint64_t serial;
    std::uint32_t limit;
    std::byte* bytes;
    std::uint64_t stride;
};

struct Got {
    Client* client = nullptr;
    std::uint64_t name = 0;
    std::byte* data = nullptr;
};

struct {
    std::uint64_t serial;
    Lane* lane;
} thread_local last_lane;

[[noreturn, gnu::cold, gnu::noinline]] void wrong() {
    throw std::runtime_error("a step went wrong");
}
void require(bool sound) {
    if (!sound) [[unlikely]] {
        wrong();
    }
}

template <unsigned Done>
void begin(LaneRecord& record) {
    if constexpr ((Done & kThieves) != 0) {
        record.busy.store(1, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        require(record.revoked.load(std::memory_order_relaxed) == 0);
    }
}
template <unsigned Done>
void end(LaneRecord& record, std::atomic<std::uint64_t>& counter) {
    if constexpr ((Done & kCounters) != 0) {
#if defined(__x86_64__)
        asm("add{q $1, %0| qword ptr %0, 1}" : "+m"(counter) : : "cc");
#else
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
#endif
    }
    if constexpr ((Done & kThieves) != 0) {
        record.busy.store(0, std::memory_order_release);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
}
template <unsigned Done>
Lane& lane_of(const Client& client) {
    if constexpr ((Done & kOwner) != 0) {
        require(client.serial == last_lane.serial);
    }
    return *last_lane.lane;
}

template <unsigned Done>
[[gnu::always_inline]] inline Got get(Client& client) {
    Lane& lane = lane_of<Done>(client);
    Magazine& magazine = *lane.magazine;
    begin<Done>(*lane.record);
    const std::uint64_t top = magazine.head.count.load(std::memory_order_relaxed) - 1U;
    require(top < lane.capacity);
    const std::uint64_t i = magazine.items[top].load(std::memory_order_relaxed);
    require(i < client.limit);
    Got got{&client, i + 1, client.bytes};
    SlotRecord& slot = lane.slots[i];
    if constexpr ((Done & kWord) != 0) {
        const std::uint64_t seen = slot.word.load(std::memory_order_acquire);
        require(static_cast<std::uint32_t>(seen) == lane.free);
        slot.word.store(seen + lane.get_step, std::memory_order_release);
        got.name = seen + lane.get_step + i + 1 - lane.held;
    }
    if constexpr ((Done & kTime) != 0) {
        const std::uint32_t now = lane.live->now.load(std::memory_order_relaxed);
        if (slot.time.load(std::memory_order_relaxed) != now) [[unlikely]] {
            slot.time.store(now, std::memory_order_relaxed);
        }
    }
    if constexpr ((Done & kErase) != 0) {
        require(lane.live->options.load(std::memory_order_relaxed) == 0);
    }
    magazine.head.count.store(static_cast<std::uint32_t>(top), std::memory_order_release);
    end<Done>(*lane.record, lane.record->gets);
    if constexpr ((Done & kAddress) != 0) {
        got.data += i * client.stride;
    }
    return got;
}

template <unsigned Done>
[[gnu::always_inline]] inline void put(const Got& got) {
    Lane& lane = lane_of<Done>(*got.client);
    Magazine& magazine = *lane.magazine;
    begin<Done>(*lane.record);
    const std::uint64_t count = magazine.head.count.load(std::memory_order_relaxed);
    require(count < lane.capacity);
    const std::uint32_t i = static_cast<std::uint32_t>(got.name) - 1;
    magazine.items[count].store(i, std::memory_order_relaxed);
    if constexpr ((Done & kWord) != 0) {
        const std::uint64_t held = (got.name >> 32U << 32U) | lane.held;
        std::atomic<std::uint64_t>& word = lane.slots[i].word;
        require(word.load(std::memory_order_relaxed) == held);
        word.store(held - lane.put_step, std::memory_order_release);
    }
    magazine.head.count.store(static_cast<std::uint32_t>(count) + 1, std::memory_order_release);
    end<Done>(*lane.record, lane.record->puts);
    if constexpr ((Done & kWaiters) != 0) {
        require(lane.live->waiters.load(std::memory_order_relaxed) == 0);
    }
}

/// What the steps work on, sound for every choice of them.
class World {
public:
    World() {
        const std::uint64_t held = SlotWord::held(Generation{0}, ClientId{1}).bits;
        const std::uint64_t free = SlotWord::free(Generation{0}, kMagazine).bits;
        lane_ = {&shared_.magazine,
                 &shared_.live,
                 &shared_.record,
                 shared_.slots.data(),
                 held,
                 held - free + (std::uint64_t{1} << 32U),
                 held - free,
                 static_cast<std::uint32_t>(free),
                 kCapacity};
        for (SlotRecord& slot : shared_.slots) {
            slot.word.store(free);
        }
        for (std::uint32_t k = 0; k < kCapacity / 2; ++k) {
            shared_.magazine.items[k].store(k + kSlots / 4);
        }
        shared_.magazine.head.count.store(kCapacity / 2);
        last_lane = {client_.serial, &lane_};
    }
    ~World() = default;
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    Client& client() { return client_; }

private:
    struct Shared {
        Live live;
        LaneRecord record;
        Magazine magazine;
        std::array<SlotRecord, kSlots> slots;
        std::array<std::byte, std::size_t{kSlots} * 64> bytes;
    };

    Shared& shared_ = *static_cast<Shared*>(shared_memory(sizeof(Shared)));
    Lane lane_{};
    Client client_{5, kSlots, shared_.bytes.data(), 64};
};

/// Nanoseconds a pair of kPairs.
template <unsigned Done>
[[gnu::noinline]] double time_pairs(Client& client) {
    constexpr int kPairs = 1024;
    const auto start = Clock::now();
    for (int k = 0; k < kPairs; ++k) {
        Got got = get<Done>(client);  // not const, or it lives in memory
        asm volatile("" : : "r"(got.data) : "memory");
        put<Done>(got);
    }
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count() / kPairs;
}

/// Medians of kRounds by turns: with all steps, and with those of `Done` only.
template <unsigned Done>
std::pair<double, double> compare() {
    constexpr int kRounds = 1000;
    World world;
    std::vector<double> all;
    std::vector<double> some;
    for (int k = 0; k < kRounds; ++k) {
        all.push_back(time_pairs<kAll>(world.client()));
        some.push_back(time_pairs<Done>(world.client()));
    }
    return {median(std::move(all)), median(std::move(some))};
}
template <unsigned Left>
double saved() {
    const auto [all, rest] = compare<kAll & ~Left>();
    return all - rest;
}

}  // namespace
}  // namespace steps

double pair_steps() { return steps::compare<steps::kAll>().first; }
double pair_magazine() { return steps::compare<0>().second; }
double step_word() { return steps::saved<steps::kWord>(); }
double step_thieves() { return steps::saved<steps::kThieves>(); }
double step_owner() { return steps::saved<steps::kOwner>(); }
double step_diagnostics() { return steps::saved<steps::kTime | steps::kCounters>(); }
double step_options() { return steps::saved<steps::kErase | steps::kWaiters>(); }
double step_address() { return steps::saved<steps::kAddress>(); }

}  // namespace bench
