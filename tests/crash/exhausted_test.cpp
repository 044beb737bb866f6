// A get that looks for a slot, stopped after its instructions in turn: while it stands still, the
// one free slot goes from where it has yet to look to where it has looked. It may find it or say
// that others are at work, but not that there was none.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"

namespace mempool::test {
namespace {

using shm::ClientId;
using shm::GetResult;
using shm::Lane;
using shm::LaneId;
using shm::PutResult;
using shm::Taken;

constexpr int kFound = 0;
constexpr int kOthersAtWork = 1;
constexpr int kSaidExhausted = 2;

/// Where a free slot is: in the magazine of a lane, or in the shard that this lane gives to. The
/// seeker is lane 2, so it begins at shard 2 and at lane 3, and comes to shard 1 and lane 1 last.
struct Place {
    std::uint32_t lane;
    bool in_depot;
};

constexpr Place kFirstShard{6, true};
constexpr Place kLastShard{5, true};
constexpr Place kFirstLane{3, false};
constexpr Place kLastLane{1, false};

std::string name_of(Place place) {
    return (place.in_depot ? "Shard" : "Lane") + std::to_string(place.lane % 4);
}

// All slots are out but one, which is in the hands of nobody.
class Hunt {
public:
    explicit Hunt(Place first) {
        for (std::uint32_t l = 1; l <= 6; ++l) {
            lanes_.at(l).emplace(test_.open(LaneId{l}, ClientId{l == 2 ? 2U : 1U}));
        }
        out_ = shm::test::get_all(lane(4), test_.limit());
        put(first);
    }

    /// In a child.
    int seek() {
        Taken taken;
        switch (lane(2).get(test_.limit(), taken)) {
            case GetResult::kOk:
                return kFound;
            case GetResult::kBusy:
                return kOthersAtWork;
            default:
                return kSaidExhausted;
        }
    }

    /// Another slot is free at `to`, before the one at `from` is got.
    void move(Place from, Place to) {
        put(to);
        Taken taken;
        ASSERT_EQ(lane(from.lane).get(test_.limit(), taken), GetResult::kOk);
    }

private:
    Lane& lane(std::uint32_t l) { return *lanes_.at(l); }
    void put(Place place) {
        ASSERT_EQ(lane(place.lane).put_private(out_.back()), PutResult::kOk);
        out_.pop_back();
        if (place.in_depot) {
            lane(place.lane).share();
        }
    }

    shm::test::TestPool test_{
        {.slot_size = 65536, .slots = 2, .capacity = 1, .client_count = 3, .shards = 4}};
    std::array<std::optional<Lane>, 7> lanes_;
    std::vector<Taken> out_;
};

class Exhausted : public SteppedWith<std::tuple<Place, Place>> {};

TEST_P(Exhausted, IsNotSaidOfASlotThatMoves) {
    constexpr std::uint64_t kStride = 41;
    const auto [from, to] = GetParam();
    std::uint64_t stops = 0;
    std::uint64_t at_work = 0;
    bool over = false;
    for (std::uint64_t steps = 0; !over; steps += kStride, ++stops) {
        Hunt hunt(from);
        Stepper child([&] { return hunt.seek(); });
        over = !child.step(steps);
        if (!over) {
            hunt.move(from, to);
        }
        const int result = child.finish();
        ASSERT_NE(result, kSaidExhausted) << "after " << steps << " instructions";
        ASSERT_LE(result, kOthersAtWork);
        at_work += result == kOthersAtWork ? 1U : 0U;
    }
    EXPECT_GT(stops, 10U);
    EXPECT_LT(at_work, stops);
}

INSTANTIATE_TEST_SUITE_P(
    Move, Exhausted,
    testing::Values(std::tuple(kLastLane, kFirstLane), std::tuple(kLastLane, kFirstShard),
                    std::tuple(kLastShard, kFirstShard), std::tuple(kLastShard, kFirstLane)),
    [](const auto& move) {
        return name_of(std::get<0>(move.param)) + "To" + name_of(std::get<1>(move.param));
    });

}  // namespace
}  // namespace mempool::test
