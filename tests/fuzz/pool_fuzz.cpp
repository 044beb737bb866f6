// A small pool whose metadata is written over between, and beside, all that is done with a pool:
// slots may be lost or doubled, but nothing crashes, hangs, or leaves the mapping.
#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "fuzz/input.hpp"
#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/recovery/reclaim.hpp"
#include "mempool/shm/recovery/repair.hpp"

namespace {

namespace shm = mempool::shm;
using mempool_fuzz::Input;
using shm::ClientId;
using shm::LaneId;

constexpr shm::Shape kShape{
    .slot_size = 64, .max_slots = 32, .magazine_capacity = 4, .client_count = 4, .shard_count = 2};
constexpr shm::Geometry kGeometry = *make_geometry(kShape);

// The metadata, with nothing mapped before and behind it.
std::byte* guarded_metadata() {
    static std::byte* const kBase = [] {
        const std::size_t bytes = kGeometry.slots_offset;
        void* range =
            ::mmap(nullptr, bytes + 2 * shm::kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        std::byte* base = static_cast<std::byte*>(range) + shm::kPage;
        if (range == MAP_FAILED || ::mprotect(base, bytes, PROT_READ | PROT_WRITE) != 0) {
            std::abort();
        }
        return base;
    }();
    return kBase;
}

class Fuzzed {
public:
    Fuzzed() {
        std::memset(guarded_metadata(), 0, kGeometry.slots_offset);
        write_header(pool_, {.name = "fuzz", .first_generation = 7, .now = 1000});
        announce_segment(pool_, 0, shm::next_segment(kGeometry, 0, 16, nullptr, 1000));
        mark_ready(pool_);
        for (std::uint32_t c = 1; c < 3; ++c) {
            pool_.client(ClientId{c}).state.store(shm::ClientState::kActive);
            open(c);
        }
    }

    void step(Input& input) {
        const auto choice = input.take<std::uint8_t>();
        shm::Lane& lane = lanes_.at(choice >> 7U);
        const std::uint32_t limit = pool_.index_limit() < 16 ? pool_.index_limit() : 16;
        shm::Taken some = known_.at((choice >> 5U) % known_.size());
        switch (choice % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
                overwrite(input, choice);
                break;
            case 4:
            case 5: {
                shm::Taken t;
                if (lane.get(limit, t) == shm::GetResult::kOk) {
                    known_.at(next_++ % known_.size()) = t;
                }
                break;
            }
            case 6:
                (void)((choice & 0x10U) != 0 ? lane.put_private(some) : lane.put(some, limit));
                break;
            case 7:
                (void)lane.adopt(some, limit);
                break;
            case 8:
                (void)((choice & 0x10U) != 0 ? lane.show(some) : lane.detach(some, limit));
                break;
            case 10:
                lane.close();
                close_for_good_ = !lane.open();
                break;
            case 11:
                (void)audit(pool_, 0);
                break;
            case 12:
                (void)take_census(pool_);
                (void)count_depot(pool_);
                break;
            case 13:
                reclaim(
                    pool_, [](ClientId c) { return raw(c) != 1; }, nullptr);
                break;
            case 9:
                if ((choice & 0x20U) != 0) {
                    repair(
                        pool_, [](ClientId c) { return raw(c) > 2; }, false, nullptr);
                    break;
                }
                lane.share();
                break;
            case 14:
                reclaim_detached(pool_, input.take<std::uint32_t>(), nullptr);
                break;
            default:
                rehint(pool_);
        }
    }
    [[nodiscard]] bool over() const { return close_for_good_; }

private:
    void open(std::uint32_t c) {
        if (!try_claim_lane(pool_, LaneId{c}, ClientId{c}) || !lanes_.at(c - 1).open()) {
            std::abort();
        }
    }

    // 4 bytes at a place in one of the arrays; small numbers and such as mean something more often
    // than others.
    void overwrite(Input& input, std::uint8_t choice) {
        constexpr std::array kStarts = {std::uint64_t{shm::kPage}, std::uint64_t{2 * shm::kPage},
                                        kGeometry.clients_offset,  kGeometry.lanes_offset,
                                        kGeometry.rings_offset,    kGeometry.cells_offset,
                                        kGeometry.records_offset,  kGeometry.magazines_offset};
        const std::size_t region = (choice >> 4U) % kStarts.size();
        const auto where = input.take<std::uint16_t>();
        const std::uint64_t at =
            (kStarts.at(region) + where % 4096U * 4U) % (kGeometry.slots_offset - 4);
        std::uint32_t value = input.take<std::uint32_t>();
        if (choice % 4 == 0) {
            value &= 0xffU;
        } else if (choice % 4 == 1) {
            value = ~0U - (value & 0xfU);
        }
        std::memcpy(pool_.base() + std::max<std::uint64_t>(at, shm::kPage), &value, sizeof(value));
    }

    shm::Pool pool_{guarded_metadata(), kGeometry};
    std::array<shm::Lane, 2> lanes_ = {shm::Lane(pool_, LaneId{1}, ClientId{1}, 0),
                                       shm::Lane(pool_, LaneId{2}, ClientId{2}, 0)};
    std::array<shm::Taken, 4> known_{};
    std::size_t next_ = 0;
    bool close_for_good_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    Fuzzed fuzzed;
    for (int k = 0; k < 200 && !input.empty() && !fuzzed.over(); ++k) {
        fuzzed.step(input);
    }
    return 0;
}
