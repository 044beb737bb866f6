// Segments that are added while a client works, and what it asks the daemon for.
#include <chrono>
#include <thread>

#include "client/fixture.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Handle;
using mempool::Slot;
using mempool::shm::RequestKind;

constexpr FakePoolOptions kGrowing{.slots = 8, .max_slots = 4096, .magazine_capacity = 4};

TEST(Growth, ASegmentIsMappedWhenItsFirstSlotIsMet) {
    Served served(kGrowing);
    Client client = served.attach();
    std::vector<Slot> slots = get_all(client);
    EXPECT_EQ(slots.size(), 8U);
    served.pool.grow(100);
    served.pool.grow(50);
    std::vector<Slot> more = get_all(client);
    EXPECT_EQ(more.size(), 150U);
    for (const Slot& slot : more) {
        slot.data()[slot.size() - 1] = std::byte{1};
        EXPECT_EQ(client.base() + slot.offset(), slot.data());
    }
    more.clear();
    slots.clear();
    EXPECT_EQ(served.pool.free_slots(), 158U);
    EXPECT_EQ(served.daemon.seen(RequestKind::kSegment), 0U);
}

TEST(Growth, SegmentsThatWereThereBeforeAreMappedAtAttach) {
    Served served(kGrowing);
    served.pool.grow(100, false);
    Client client = served.attach();
    served.daemon.stop();
    EXPECT_EQ(get_all(client).size(), 108U);
}

TEST(Growth, ASegmentWithoutANameComesFromTheDaemon) {
    Served served(kGrowing);
    Client client = served.attach();
    served.pool.grow(100, false);
    EXPECT_EQ(get_all(client).size(), 108U);
    EXPECT_EQ(served.daemon.seen(RequestKind::kSegment), 1U);
}

TEST(Growth, ASegmentNobodyCanGiveIsUnavailableUntilSomebodyCan) {
    Served served(kGrowing);
    Client client = served.attach();
    const std::vector<Slot> first = get_all(client);
    served.pool.grow(100, false);
    served.daemon.stop();
    std::error_code error;
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kSegmentUnavailable);
    EXPECT_FALSE(client.get_for(std::chrono::milliseconds{1}, error));
    EXPECT_EQ(error, Errc::kSegmentUnavailable);
    served.daemon.start();
    while (!client.get()) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    EXPECT_GE(served.daemon.seen(RequestKind::kResume), 1U);
}

TEST(Growth, AHandleIntoANewSegmentIsAdoptedAndReturned) {
    Served served(kGrowing);
    Client client = served.attach();
    const Slot touch = client.get();
    served.pool.grow(100);
    Client other = served.attach();
    std::vector<Slot> slots = get_all(other);
    const Handle handle = slots[slots.size() / 2].release();
    EXPECT_GE(handle.index(), 8U);
    Slot adopted = client.adopt(handle);
    ASSERT_TRUE(adopted);
    adopted.data()[0] = std::byte{7};
}

TEST(Growth, APutNeedsNoMappingOfTheSlot) {
    Served served(kGrowing);
    Client client = served.attach();
    served.pool.grow(100, false);
    Client other = served.attach();
    std::vector<Slot> slots = get_all(other);
    const Handle handle = slots.back().release();
    ASSERT_GE(handle.index(), 8U);
    served.daemon.stop();
    std::error_code error;
    EXPECT_FALSE(client.adopt(handle, error));
    EXPECT_EQ(error, Errc::kSegmentUnavailable);
    EXPECT_FALSE(client.put(handle));
    EXPECT_EQ(client.put(handle), Errc::kStale);
}

TEST(Growth, ASegmentOfAnotherPoolUnderTheNameIsNotUsed) {
    Served served(kGrowing);
    Client client = served.attach();
    const std::vector<Slot> first = get_all(client);
    served.pool.grow(100, false);
    // Another pool's second segment takes the name.
    Served other(kGrowing);
    other.pool.grow(100);
    const std::string theirs = "/dev/shm" + other.pool.object(1);
    const std::string ours = "/dev/shm" + served.pool.object(1);
    other.pool.pool().header().uuid[0] ^= 1U;
    ASSERT_EQ(::rename(theirs.c_str(), ours.c_str()), 0);
    const Slot slot = client.get();
    EXPECT_TRUE(slot);
}

TEST(Growth, IsAskedForOnceWhenThePoolIsEmpty) {
    Served served(kGrowing);
    Client client = served.attach();
    const std::vector<Slot> slots = get_all(client);
    EXPECT_FALSE(client.get());
    EXPECT_FALSE(client.get());
    served.daemon.wait_for(RequestKind::kWantMore);
    EXPECT_EQ(served.daemon.seen(RequestKind::kWantMore), 1U);
    EXPECT_EQ(served.pool.pool().live().grow_wanted.load(), 1U);
}

TEST(Growth, IsNotAskedForWhenThePoolMayNotGrow) {
    const Served served;
    Client client = served.attach();
    const std::vector<Slot> slots = get_all(client);
    EXPECT_FALSE(client.get());
    EXPECT_EQ(served.pool.pool().live().grow_wanted.load(), 0U);
}

TEST(Growth, IsAskedForAgainOverANewConnectionAfterTheDaemonsRestart) {
    Served served(kGrowing);
    Client client = served.attach();
    const std::vector<Slot> slots = get_all(client);
    served.daemon.wait_for(RequestKind::kWantMore);
    served.daemon.stop();
    served.pool.pool().live().grow_wanted.store(0);
    EXPECT_FALSE(client.get());
    served.daemon.start();
    while (served.daemon.seen(RequestKind::kWantMore) < 2) {
        served.pool.pool().live().grow_wanted.store(0);
        EXPECT_FALSE(client.get());
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    EXPECT_EQ(served.daemon.seen(RequestKind::kResume), 1U);
}

TEST(Growth, ADaemonThatDoesNotReadDoesNotHoldUpAGet) {
    // It handles the attach and then sits in its hands.
    std::atomic<bool> stuck{true};
    Served served(kGrowing, [&](const mempool::shm::Request& request, Answer&) {
        while (request.kind == RequestKind::kWantMore && stuck.load()) {
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
    });
    Client client = served.attach();
    const std::vector<Slot> slots = get_all(client);
    for (int k = 0; k < 5000; ++k) {
        served.pool.pool().live().grow_wanted.store(0);
        EXPECT_FALSE(client.get());
    }
    stuck.store(false);
}

}  // namespace
}  // namespace mempool_test
