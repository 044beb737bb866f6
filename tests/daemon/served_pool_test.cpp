// A pool in service, without sockets or processes: attach, reclaim, growth, options.
#include "daemon/supervision/served_pool.hpp"

#include <gmock/gmock.h>

#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "mempool/shm/audit.hpp"
#include "mempool/shm/census.hpp"
#include "mempool/shm/lane.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;

class ServedPoolTest : public testing::Test {
protected:
    void make(const std::string& keys) {
        PoolConfig config = parse_pool(name_ + ":64x128" + keys, "test");
        auto storage = Storage::create(config, epoch_now());
        pool_ = std::make_unique<ServedPool>(std::move(config), std::move(storage));
        pool_->begin_service();
    }

    shm::ClientId attach() {
        ClientIdentity client;
        client.process.pid = 1;
        const auto id = pool_->attach(client);
        EXPECT_TRUE(id);
        return *id;
    }

    shm::Reclaimed detach(shm::ClientId id) {
        shm::Reclaimed taken;
        pool_->detach(id, true, [&taken](const shm::Reclaimed& r) { taken = r; });
        return taken;
    }

    // Gets up to `wanted` slots as a thread of client `id` would.
    std::vector<shm::Taken> get(shm::ClientId id, std::size_t wanted) {
        const shm::LaneId lane_id{raw(id)};
        EXPECT_TRUE(shm::try_claim_lane(pool_->view(), lane_id, id));
        shm::Lane lane(pool_->view(), lane_id, id, pool_->view().client(id).epoch.load());
        EXPECT_TRUE(lane.open());
        std::vector<shm::Taken> all;
        shm::Taken taken;
        while (all.size() < wanted &&
               lane.get(pool_->view().index_limit(), taken) == shm::GetResult::kOk) {
            all.push_back(taken);
        }
        return all;
    }

    shm::Census census() const { return shm::take_census(pool_->view()); }

    const std::string name_ = mempool_test::unique_pool("served");
    std::unique_ptr<ServedPool> pool_;
};

TEST_F(ServedPoolTest, ADeadClientsSlotsComeBack) {
    make("");
    const shm::ClientId id = attach();
    EXPECT_EQ(get(id, 40).size(), 40U);
    EXPECT_EQ(census().held, 40U);
    EXPECT_EQ(detach(id).slots, 40U);
    EXPECT_EQ(census().free, 128U);
    EXPECT_EQ(pool_->view().live().deaths.load(), 1U);
    EXPECT_EQ(pool_->view().live().reclaimed.load(), 40U);
    EXPECT_EQ(pool_->view().client(id).state.load(), shm::ClientState::kFree);
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
}

TEST_F(ServedPoolTest, AnotherClientKeepsItsSlots) {
    make("");
    const shm::ClientId dead = attach();
    const shm::ClientId alive = attach();
    get(dead, 10);
    get(alive, 11);
    detach(dead);
    EXPECT_EQ(census().held, 11U);
    EXPECT_EQ(pool_->sweep().slots, 0U);
}

TEST_F(ServedPoolTest, ReclaimErasesWhenAsked) {
    make(",erase_on_put=yes");
    EXPECT_EQ(pool_->view().live().options.load(), shm::kEraseOnPut);
    const shm::ClientId id = attach();
    const auto slots = get(id, 3);
    ASSERT_EQ(slots.size(), 3U);
    const int fd = pool_->storage().segments().front().writable.get();
    const std::uint64_t offset = pool_->view().geometry().offset_of(slots[1].index);
    ASSERT_EQ(::pwrite(fd, "secret", 6, static_cast<off_t>(offset)), 6);
    detach(id);
    std::string found(6, '?');
    ASSERT_EQ(read_at(fd, found.data(), found.size(), offset), 0);
    EXPECT_EQ(found, std::string(6, '\0'));
    EXPECT_EQ(census().free, 128U);
}

TEST_F(ServedPoolTest, APoolThatRunsLowGrows) {
    make(",max_slots=1000,low_watermark=50%");
    const auto now = ServedPool::Clock::now();
    pool_->consider_growth(now);
    EXPECT_EQ(pool_->storage().slots(), 128U);
    get(attach(), 80);
    pool_->consider_growth(now);
    EXPECT_EQ(pool_->storage().slots(), 256U);
    EXPECT_EQ(pool_->view().live().grown.load(), 1U);
}

TEST_F(ServedPoolTest, AWishForMoreIsGrantedOnce) {
    make(",max_slots=1000,low_watermark=0,grow_slots=10");
    pool_->view().live().grow_wanted.store(1);
    pool_->consider_growth(ServedPool::Clock::now());
    pool_->consider_growth(ServedPool::Clock::now());
    EXPECT_EQ(pool_->storage().slots(), 138U);
    EXPECT_EQ(pool_->view().live().grow_wanted.load(), 0U);
}

TEST_F(ServedPoolTest, GrowthByHandStopsAtMaxSlots) {
    make(",max_slots=200");
    EXPECT_EQ(pool_->grow(50), 50U);
    EXPECT_EQ(pool_->grow(50), 22U);
    try {
        pool_->grow(1);
        FAIL() << "grew beyond max_slots";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::no_space_on_device);
        EXPECT_THAT(e.what(), testing::HasSubstr("is at max_slots"));
    }
    EXPECT_THROW(pool_->grow(0), std::system_error);
    EXPECT_EQ(census().slots, 200U);
}

TEST_F(ServedPoolTest, DetachedSlotsAreFreedByAge) {
    make("");
    const shm::ClientId id = attach();
    const auto slots = get(id, 5);
    shm::Lane lane(pool_->view(), shm::LaneId{raw(id)}, id, pool_->view().client(id).epoch.load());
    for (const shm::Taken& slot : slots) {
        EXPECT_EQ(lane.detach(slot, pool_->view().index_limit()), shm::PutResult::kOk);
    }
    EXPECT_EQ(pool_->free_detached(3600), 0U);
    const auto long_ago = static_cast<std::uint32_t>(epoch_now() - 7200);
    pool_->view().record(slots[0].index).time.store(long_ago);
    EXPECT_EQ(pool_->free_detached(3600), 1U);
    EXPECT_EQ(census().detached, 4U);
    EXPECT_EQ(pool_->free_detached(0), 4U);
    EXPECT_EQ(census().detached, 0U);
}

TEST_F(ServedPoolTest, TheDetachedTtlFreesAndErases) {
    make(",detached_ttl=1,erase_on_put=yes");
    const shm::ClientId id = attach();
    const auto slots = get(id, 2);
    ASSERT_EQ(slots.size(), 2U);
    shm::Lane lane(pool_->view(), shm::LaneId{raw(id)}, id, pool_->view().client(id).epoch.load());
    for (const shm::Taken& slot : slots) {
        EXPECT_EQ(lane.detach(slot, pool_->view().index_limit()), shm::PutResult::kOk);
    }
    const int fd = pool_->storage().segments().front().writable.get();
    const std::uint64_t offset = pool_->view().geometry().offset_of(slots[0].index);
    ASSERT_EQ(::pwrite(fd, "secret", 6, static_cast<off_t>(offset)), 6);
    pool_->view().record(slots[0].index).time.store(static_cast<std::uint32_t>(epoch_now() - 61));
    pool_->view().record(slots[1].index).time.store(static_cast<std::uint32_t>(epoch_now() + 60));
    pool_->tick_second();
    EXPECT_EQ(census().detached, 2U);  // a first tick knows no ages: the clock may have stood still
    // Again, if this thread slept for too long.
    for (int k = 0; k < 10 && census().detached != 1; ++k) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1100});
        pool_->tick_second();
    }
    EXPECT_EQ(census().detached, 1U);
    std::string found(6, '?');
    ASSERT_EQ(read_at(fd, found.data(), found.size(), offset), 0);
    EXPECT_EQ(found, std::string(6, '\0'));
}

TEST_F(ServedPoolTest, WhatTheDaemonHeldWhenItDiedComesBackAtTheNextStart) {
    make("");
    const auto slots = get(attach(), 2);
    ASSERT_EQ(slots.size(), 2U);
    pool_->view()
        .word(slots[0].index)
        .store(shm::SlotWord::held(slots[0].generation, shm::kDaemonClient).bits);
    PoolConfig config = pool_->config();
    pool_.reset();
    auto storage = Storage::reattach(config);
    pool_ = std::make_unique<ServedPool>(std::move(config), std::move(storage));
    pool_->begin_service();
    EXPECT_EQ(census().free, 128U);
    EXPECT_EQ(pool_->view().live().daemon_starts.load(), 2U);
}

TEST_F(ServedPoolTest, AWrongCountOfWaitersIsCorrected) {
    make("");
    pool_->view().live().waiters.store(7);
    pool_->tick_second();
    EXPECT_EQ(pool_->view().live().waiters.load(), 7U) << "once may be a waiter on its way";
    pool_->tick_second();
    EXPECT_EQ(pool_->view().live().waiters.load(), 0U);
}

TEST_F(ServedPoolTest, HeaderAndSegmentTableAreRestoredWithinATick) {
    make(",max_slots=512");
    pool_->grow(64);
    const shm::Pool& view = pool_->view();
    const std::string before(reinterpret_cast<const char*>(view.base()), 3 * shm::kPage);
    std::memset(static_cast<void*>(&view.header()), 0x5a, shm::kPage);
    std::memset(static_cast<void*>(&view.segment(0)), 0x5a, 2 * sizeof(shm::SegmentEntry));
    view.live().segment_count.store(~0U);
    pool_->tick_second();
    EXPECT_EQ(std::memcmp(&view.header(), before.data(), shm::kPage), 0);
    EXPECT_EQ(std::memcmp(&view.segment(0), before.data() + 2 * shm::kPage,
                          2 * sizeof(shm::SegmentEntry)),
              0);
    EXPECT_EQ(view.segment_count(), 2U);
}

TEST_F(ServedPoolTest, ADamagedRingIsMadeAnewWithinTwoTicks) {
    make("");
    pool_->view().live().full.tail.store(std::uint64_t{1} << 60U);
    pool_->tick_second();
    pool_->tick_second();
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
    EXPECT_EQ(get(attach(), 1000).size(), 128U);
}

TEST_F(ServedPoolTest, ARepairRestoresClientRecordsAndTheSumOfWaiters) {
    make("");
    const shm::ClientId id = attach();
    ASSERT_EQ(get(id, 5).size(), 5U);
    const shm::Pool& view = pool_->view();
    view.client(id).state.store(shm::ClientState::kFree);
    view.client(id).pid = 77;
    view.client(shm::ClientId{9}).state.store(shm::ClientState::kActive);
    view.live().waiters.store(1000);
    shm::Repaired done = pool_->repair();
    EXPECT_EQ(done[shm::Fault::kClientRecord], 2U);
    EXPECT_EQ(done[shm::Fault::kWaiters], 1U);
    EXPECT_EQ(done.total(), 3U);
    EXPECT_EQ(view.client(id).pid, 1U);
    EXPECT_EQ(view.client(id).state.load(), shm::ClientState::kActive);
    EXPECT_EQ(census().held_by[raw(id)], 5U);
    EXPECT_EQ(pool_->repair().total(), 0U);
}

TEST_F(ServedPoolTest, AMissingHintIsPushedWithinATick) {
    make("");
    auto* cells = pool_->view().full_cells();
    for (std::uint32_t k = 0; k < pool_->view().geometry().ring_capacity; ++k) {
        cells[k].store(cells[k].load() & ~0xffff'ffffULL);
    }
    pool_->view().live().full.head.store(0);
    pool_->view().live().full.tail.store(0);
    EXPECT_FALSE(shm::audit(pool_->view()).findings.empty());
    pool_->tick_second();
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
    EXPECT_EQ(get(attach(), 1000).size(), 128U);
}

}  // namespace
}  // namespace mempoold
