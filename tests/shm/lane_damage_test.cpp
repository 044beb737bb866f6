// A lane whose magazines are written over: it hangs on nothing and writes nowhere else.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/recovery/reclaim.hpp"
#include "shm/test_pool.hpp"

namespace mempool::shm {
namespace {

using test::TestPool;

// The first magazine whose word makes no sense, or 0.
std::uint32_t magazine_overwritten(const Pool& pool) {
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const MagazineWord word{pool.magazine(MagazineId{m}).word.load()};
        if (word.state() < MagazineState::kFull || word.state() > MagazineState::kOwned ||
            raw(word.lane()) >= pool.geometry().lane_count) {
            return m;
        }
    }
    return 0;
}

// Between what is checked and what is used: an item one beyond the last would stand in the next
// magazine's word, since twelve items fill the lines of a magazine.
TEST(LaneDamage, CountsThatChangeUnderAPutOrAReclaimLeadNowhere) {
#ifdef __SANITIZE_THREAD__
    constexpr int kPools = 20;  // slow, and what it looks for is seen elsewhere
#else
    constexpr int kPools = 1000;
#endif
    for (int pools = 0; pools < kPools; ++pools) {
        TestPool test({.slots = 120, .capacity = 12});
        const Pool& pool = test.pool();
        Lane lane = test.open(LaneId{1}, ClientId{1});
        Lane other = test.open(LaneId{2}, ClientId{2});
        std::atomic<bool> over{false};
        std::thread scribbles([&] {
            while (!over) {
                for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
                    pool.magazine(MagazineId{m}).count.store(11);
                    pool.magazine(MagazineId{m}).count.store(12);
                }
            }
        });
        for (int round = 0; round < 2000; ++round) {
            Taken t;
            if (lane.get(test.limit(), t) == GetResult::kOk) {
                (void)test::show_and_put(lane, t);
            }
            if (round % 10 == 0 && other.get(test.limit(), t) == GetResult::kOk) {
                (void)other.detach(t, test.limit());
                reclaim_detached(pool, ~0U, nullptr);
            }
        }
        over = true;
        scribbles.join();
        ASSERT_EQ(magazine_overwritten(pool), 0U);
    }
}

TEST(LaneDamage, CountsBeyondTheCapacityDoNotHangAGet) {
    test::TestPool test;
    Lane lane = test.open(LaneId{1}, ClientId{1});
    const LaneRecord& record = test.pool().lane(LaneId{1});
    for (const auto* id : {&record.loaded, &record.previous}) {
        test.pool().magazine(MagazineId{id->load()}).count.store(1000);
    }
    EXPECT_EQ(test::get_all(lane, test.limit()).size(), test.slots());
}

}  // namespace
}  // namespace mempool::shm
