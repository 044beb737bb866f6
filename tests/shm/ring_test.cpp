// The ring of hints: order, bounds, foreign bytes, and many threads at once.
#include "mempool/shm/depot/ring.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace mempool::shm {
namespace {

constexpr std::uint32_t kCapacity = 8;

class Rings : public testing::Test {
protected:
    MagazineId pop() {
        const Hint hint = ring_.peek();
        if (hint.magazine != kNoMagazine) {
            ring_.remove(hint);
        }
        return hint.magazine;
    }
    bool push(std::uint32_t m) { return ring_.push(MagazineId{m}); }

    RingState state_{};
    std::array<std::atomic<std::uint64_t>, kCapacity> cells_{};
    Ring ring_{state_, cells_.data(), kCapacity};
};

TEST_F(Rings, PopInTheOrderPushedThroughManyLaps) {
    std::uint32_t pushed = 0;
    std::uint32_t popped = 0;
    for (std::uint32_t round = 0; round < 20 * kCapacity; ++round) {
        for (std::uint32_t k = 0; k < 1 + round % kCapacity; ++k) {
            ASSERT_TRUE(push(++pushed));
        }
        while (popped < pushed) {
            ASSERT_EQ(pop(), MagazineId{++popped});
        }
        ASSERT_EQ(pop(), kNoMagazine);
    }
}

TEST_F(Rings, AreFullAtTheirCapacityAndEmptyAtNone) {
    for (std::uint32_t lap = 0; lap < 3; ++lap) {
        for (std::uint32_t k = 1; k <= kCapacity; ++k) {
            ASSERT_TRUE(push(k));
        }
        EXPECT_FALSE(push(99));
        EXPECT_EQ(pop(), MagazineId{1});
        EXPECT_TRUE(push(100));
        EXPECT_FALSE(push(101));
        for (std::uint32_t k = 2; k <= kCapacity; ++k) {
            EXPECT_EQ(pop(), MagazineId{k});
        }
        EXPECT_EQ(pop(), MagazineId{100});
        EXPECT_EQ(pop(), kNoMagazine);
    }
}

TEST_F(Rings, LapsWrapAt32Bits) {
    const std::uint64_t position = std::uint64_t{0xffff'ffff} * kCapacity;
    state_.head.store(position);
    state_.tail.store(position);
    for (auto& cell : cells_) {
        cell.store(std::uint64_t{0xffff'ffff} << 32U);
    }
    for (std::uint32_t k = 1; k <= 3 * kCapacity; ++k) {
        ASSERT_TRUE(push(k));
        ASSERT_EQ(pop(), MagazineId{k});
    }
}

TEST_F(Rings, CellThatSomebodyEmptiedDoesNotHideThoseBehindIt) {
    ASSERT_TRUE(push(1));
    ASSERT_TRUE(push(2));
    cells_[0].store(0);  // foreign bytes
    EXPECT_EQ(pop(), MagazineId{2});
    EXPECT_EQ(pop(), kNoMagazine);
    ASSERT_TRUE(push(3));
    EXPECT_EQ(pop(), MagazineId{3});
}

TEST_F(Rings, PeekRemovesNothing) {
    ASSERT_TRUE(push(7));
    EXPECT_EQ(ring_.peek().magazine, MagazineId{7});
    EXPECT_EQ(ring_.peek().magazine, MagazineId{7});
    EXPECT_EQ(pop(), MagazineId{7});
}

TEST_F(Rings, RemovingAHintTwiceRemovesNoOther) {
    ASSERT_TRUE(push(1));
    ASSERT_TRUE(push(1));
    const Hint hint = ring_.peek();
    ring_.remove(hint);
    ring_.remove(hint);  // as by a process that was stopped before it
    EXPECT_EQ(pop(), MagazineId{1});
    EXPECT_EQ(pop(), kNoMagazine);
    // A lap later the same cell holds the same magazine: the lap tells them apart.
    for (std::uint32_t k = 0; k < kCapacity - 2; ++k) {
        ASSERT_TRUE(push(2));
        ASSERT_EQ(pop(), MagazineId{2});
    }
    ASSERT_TRUE(push(1));
    ring_.remove(hint);
    EXPECT_EQ(pop(), MagazineId{1});
}

TEST_F(Rings, GoOnWhereAPushOrPopWasCutOffBeforeItMovedHeadOrTail) {
    ASSERT_TRUE(push(1));
    state_.tail.store(0);  // the push died before it moved the tail
    ASSERT_TRUE(push(2));
    EXPECT_EQ(state_.tail.load(), 2U);
    EXPECT_EQ(pop(), MagazineId{1});
    state_.head.store(0);  // and this pop before it moved the head
    EXPECT_EQ(pop(), MagazineId{2});
    state_.tail.store(0);  // popped already, and the tail lags still
    ASSERT_TRUE(push(3));
    EXPECT_EQ(pop(), MagazineId{3});
    EXPECT_EQ(pop(), kNoMagazine);
}

TEST_F(Rings, AllHintsStandInCellsForTheAudit) {
    ASSERT_TRUE(push(5));
    ASSERT_TRUE(push(6));
    EXPECT_EQ(ring_.cell(0), MagazineId{5});
    EXPECT_EQ(ring_.cell(1), MagazineId{6});
    EXPECT_EQ(ring_.cell(2), kNoMagazine);
    EXPECT_EQ(ring_.capacity(), kCapacity);
}

// Whatever stands there: every call returns, and at most capacity hints come out.
TEST_F(Rings, ForeignBytesNeverHang) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 3000; ++round) {
        const std::uint64_t near = random() % (4ULL * kCapacity);
        state_.head.store(round % 3 == 0 ? random() : near);
        state_.tail.store(round % 5 == 0 ? random() : near + random() % kCapacity);
        for (auto& cell : cells_) {
            const std::uint64_t lap = random() % 6;
            cell.store(round % 7 == 0 ? random() : (lap << 32U) | random() % 4);
        }
        std::uint32_t popped = 0;
        while (pop() != kNoMagazine) {
            ASSERT_LE(++popped, 2 * kCapacity);
        }
        std::uint32_t pushed = 0;
        while (push(1)) {
            ASSERT_LE(++pushed, 4 * kCapacity);
        }
    }
}

// Magazines circulate between two rings through many threads: none is lost, none has two owners.
// A hint too many is no fault: a thread that peeked before another claimed, gave back and pushed
// may claim by the hint already removed, and leaves the newer one.
TEST(RingStress, LosesNothingBetweenManyThreads) {
    constexpr std::uint32_t kMagazines = 12;
    constexpr std::uint32_t kCells = 64;
    constexpr std::uint32_t kThreads = 5;
    struct Shared {
        std::array<RingState, 2> states{};
        std::array<std::array<std::atomic<std::uint64_t>, kCells>, 2> cells{};
        std::array<std::atomic<std::uint32_t>, kMagazines + 1> owner{};
        std::atomic<std::uint64_t> moved{0};
    } shared;
    const auto ring = [&shared](std::uint32_t k) {
        return Ring(shared.states[k], shared.cells[k].data(), kCells);
    };
    for (std::uint32_t m = 1; m <= kMagazines; ++m) {
        ASSERT_TRUE(ring(0).push(MagazineId{m}));
    }
    std::vector<std::thread> threads;
    for (std::uint32_t t = 1; t <= kThreads; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            std::uint64_t moved = 0;
            for (int k = 0; k < 20000; ++k) {
                Ring from = ring(random() % 2);
                const Hint hint = from.peek();
                if (hint.magazine == kNoMagazine) {
                    continue;
                }
                std::atomic<std::uint32_t>& owner = shared.owner.at(raw(hint.magazine));
                std::uint32_t none = 0;
                const bool mine = owner.compare_exchange_strong(none, t);  // claim first,
                from.remove(hint);                                         // remove second
                if (!mine) {
                    continue;
                }
                EXPECT_EQ(owner.exchange(0), t);
                EXPECT_TRUE(ring(random() % 2).push(hint.magazine));
                ++moved;
            }
            shared.moved += moved;
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_GT(shared.moved.load(), 0U);
    std::array<std::uint32_t, kMagazines + 1> found{};
    for (std::uint32_t k = 0; k < 2; ++k) {
        Ring r = ring(k);
        for (Hint hint = r.peek(); hint.magazine != kNoMagazine; hint = r.peek()) {
            ++found.at(raw(hint.magazine));
            r.remove(hint);
        }
    }
    for (std::uint32_t m = 1; m <= kMagazines; ++m) {
        EXPECT_GE(found.at(m), 1U) << "magazine " << m;
    }
}

}  // namespace
}  // namespace mempool::shm
