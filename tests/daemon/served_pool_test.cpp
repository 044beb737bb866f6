// A pool in service, without sockets or processes: attach, reclaim, growth, options.
#include "daemon/supervision/served_pool.hpp"

#include <gmock/gmock.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "daemon/base/worker.hpp"
#include "daemon/storage/named_backing.hpp"
#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "support/pool_objects.hpp"
#include "support/storage.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;

class ServedPoolTest : public testing::Test {
protected:
    void make(const std::string& keys, const std::string& size = "64x128") {
        PoolConfig config = parse_pool(name_ + ":" + size + keys, "test");
        auto storage = create_storage(config, epoch_now());
        serve(std::move(config), std::move(storage));
    }
    void serve(PoolConfig config, std::unique_ptr<Storage> storage) {
        pool_ = std::make_shared<ServedPool>(std::move(config), std::move(storage), worker_);
        pool_->begin_service(false);
    }
    // What a new daemon finds of this one, which was killed.
    void restart() {
        worker_.stop();
        PoolConfig config = pool_->config();
        pool_.reset();
        next_.emplace(io_);
        auto storage = Storage::reattach(config);
        pool_ = std::make_shared<ServedPool>(std::move(config), std::move(storage), *next_);
        pool_->begin_service(false);
    }

    // Keeps the worker from all other work until the promise is kept.
    std::promise<void> occupy_worker() {
        std::promise<void> end;
        worker_.submit([wait = end.get_future().share()] { wait.wait(); }, [] {});
        return end;
    }
    // All that is under way comes to its end.
    void settle() {
        io_.restart();
        io_.run();
    }
    shm::Reclaimed detach(shm::ClientId id) {
        std::optional<shm::Reclaimed> result;
        pool_->detach(id, true, [&](const shm::Reclaimed& taken) { result = taken; });
        settle();
        EXPECT_TRUE(result);
        return result.value_or(shm::Reclaimed{});
    }
    std::uint64_t free_detached(std::uint64_t seconds) {
        std::optional<std::uint64_t> result;
        pool_->free_detached(seconds, [&](std::uint64_t freed) { result = freed; });
        settle();
        return result.value();
    }
    Growth grow(std::uint64_t slots) {
        std::optional<Growth> result;
        pool_->grow(slots, [&](const Growth& growth) { result = growth; });
        settle();
        return result.value();
    }
    void consider_growth() {
        pool_->consider_growth(ServedPool::Clock::now());
        settle();
    }
    void tick() {
        pool_->tick_second();
        settle();
    }
    // Writes into slot `i` what nobody else may see.
    void write_secret(shm::SlotIndex i) {
        const Storage::SlotBytes at = pool_->storage().locate(i);
        ASSERT_EQ(::pwrite(at.fd, "secret", 6, static_cast<off_t>(at.offset)), 6);
    }
    std::string read_secret(shm::SlotIndex i) {
        const Storage::SlotBytes at = pool_->storage().locate(i);
        std::string found(6, '?');
        EXPECT_EQ(read_at(at.fd, found.data(), found.size(), at.offset), 0);
        return found;
    }

    shm::ClientId attach() {
        ClientIdentity client;
        client.process.pid = 1;
        const auto id = pool_->attach(client);
        EXPECT_TRUE(id);
        return *id;
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
    boost::asio::io_context io_;
    Worker worker_{io_};
    std::optional<Worker> next_;
    std::shared_ptr<ServedPool> pool_;
};

const std::string kErased(6, '\0');

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
    std::optional<std::uint64_t> swept;
    pool_->sweep([&](const shm::Reclaimed& taken) { swept = taken.slots; });
    settle();
    EXPECT_EQ(swept, 0U);
}

TEST_F(ServedPoolTest, ReclaimErasesWhenAsked) {
    make(",erase_on_put=yes");
    EXPECT_EQ(pool_->view().live().options.load(), shm::kEraseOnPut);
    const shm::ClientId id = attach();
    const auto slots = get(id, 3);
    ASSERT_EQ(slots.size(), 3U);
    write_secret(slots[1].index);
    EXPECT_EQ(detach(id).slots, 3U);
    EXPECT_EQ(read_secret(slots[1].index), kErased);
    EXPECT_EQ(census().free, 128U);
}

TEST_F(ServedPoolTest, APoolThatRunsLowGrows) {
    make(",max_slots=1000,low_watermark=50%");
    consider_growth();
    EXPECT_EQ(pool_->storage().slots(), 128U);
    get(attach(), 80);
    consider_growth();
    EXPECT_EQ(pool_->storage().slots(), 256U);
    EXPECT_EQ(pool_->view().live().grown.load(), 1U);
}

TEST_F(ServedPoolTest, AWishForMoreIsGrantedOnce) {
    make(",max_slots=1000,low_watermark=0,grow_slots=10");
    pool_->view().live().grow_wanted.store(1);
    consider_growth();
    consider_growth();
    EXPECT_EQ(pool_->storage().slots(), 138U);
    EXPECT_EQ(pool_->view().live().grow_wanted.load(), 0U);
}

TEST_F(ServedPoolTest, GrowthByHandStopsAtMaxSlots) {
    make(",max_slots=200");
    EXPECT_EQ(grow(50).added, 50U);
    EXPECT_EQ(grow(50).added, 22U);
    const Growth full = grow(1);
    ASSERT_TRUE(full.refused);
    EXPECT_EQ(full.refused->code(), std::errc::no_space_on_device);
    EXPECT_THAT(full.refused->what(), testing::HasSubstr("is at max_slots"));
    EXPECT_TRUE(grow(0).refused);
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
    EXPECT_EQ(free_detached(3600), 0U);
    const auto long_ago = static_cast<std::uint32_t>(epoch_now() - 7200);
    pool_->view().record(slots[0].index).time.store(long_ago);
    EXPECT_EQ(free_detached(3600), 1U);
    EXPECT_EQ(census().detached, 4U);
    EXPECT_EQ(free_detached(0), 4U);
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
    write_secret(slots[0].index);
    pool_->view().record(slots[0].index).time.store(static_cast<std::uint32_t>(epoch_now() - 61));
    pool_->view().record(slots[1].index).time.store(static_cast<std::uint32_t>(epoch_now() + 60));
    tick();
    EXPECT_EQ(census().detached, 2U);  // a first tick knows no ages: the clock may have stood still
    // Again, if this thread slept for too long.
    for (int k = 0; k < 10 && census().detached != 1; ++k) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1100});
        tick();
    }
    EXPECT_EQ(census().detached, 1U);
    EXPECT_EQ(read_secret(slots[0].index), kErased);
}

TEST_F(ServedPoolTest, WhatTheDaemonHeldWhenItDiedComesBackAtTheNextStart) {
    make("");
    const auto slots = get(attach(), 2);
    ASSERT_EQ(slots.size(), 2U);
    pool_->view()
        .word(slots[0].index)
        .store(shm::SlotWord::held(slots[0].generation, shm::kDaemonClient).bits);
    restart();
    EXPECT_EQ(census().free, 128U);
    EXPECT_EQ(pool_->view().live().daemon_starts.load(), 2U);
}

TEST_F(ServedPoolTest, AWrongCountOfWaitersIsCorrected) {
    make("");
    pool_->view().live().waiters.store(7);
    tick();
    EXPECT_EQ(pool_->view().live().waiters.load(), 7U) << "once may be a waiter on its way";
    tick();
    EXPECT_EQ(pool_->view().live().waiters.load(), 0U);
}

TEST_F(ServedPoolTest, HeaderAndSegmentTableAreRestoredWithinATick) {
    make(",max_slots=512");
    grow(64);
    const shm::Pool& view = pool_->view();
    const std::string before(reinterpret_cast<const char*>(view.base()), 3 * shm::kPage);
    std::memset(static_cast<void*>(&view.header()), 0x5a, shm::kPage);
    std::memset(static_cast<void*>(&view.segment(0)), 0x5a, 2 * sizeof(shm::SegmentEntry));
    view.live().segment_count.store(~0U);
    tick();
    EXPECT_EQ(std::memcmp(&view.header(), before.data(), shm::kPage), 0);
    EXPECT_EQ(std::memcmp(&view.segment(0), before.data() + 2 * shm::kPage,
                          2 * sizeof(shm::SegmentEntry)),
              0);
    EXPECT_EQ(view.segment_count(), 2U);
}

TEST_F(ServedPoolTest, ADamagedRingIsMadeAnewWithinTwoTicks) {
    make("");
    pool_->view().ring_state(shm::full_ring(0)).tail.store(std::uint64_t{1} << 60U);
    tick();
    tick();
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
    auto* cells = pool_->view().ring_cells(shm::full_ring(0));
    for (std::uint32_t k = 0; k < pool_->view().geometry().ring_capacity; ++k) {
        cells[k].store(cells[k].load() & ~0xffff'ffffULL);
    }
    pool_->view().ring_state(shm::full_ring(0)).head.store(0);
    pool_->view().ring_state(shm::full_ring(0)).tail.store(0);
    EXPECT_FALSE(shm::audit(pool_->view()).findings.empty());
    tick();
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
    EXPECT_EQ(get(attach(), 1000).size(), 128U);
}

// --- what is under way while other things happen ---------------------------------------------

TEST_F(ServedPoolTest, WhatIsBeingErasedIsNobodysUntilItIs) {
    make(",erase_on_put=yes,max_clients=3");
    const shm::ClientId dead = attach();
    const shm::ClientId second = attach();
    const auto slots = get(dead, 5);
    ASSERT_EQ(slots.size(), 5U);
    ASSERT_EQ(get(second, 6).size(), 6U);
    write_secret(slots[2].index);
    std::promise<void> erases = occupy_worker();
    int ended = 0;
    pool_->detach(dead, true, [&](const shm::Reclaimed& taken) {
        ++ended;
        EXPECT_EQ(taken.slots, 5U);
    });
    EXPECT_EQ(ended, 0);
    EXPECT_EQ(census().held_by[0], 5U);
    EXPECT_EQ(pool_->view().client(dead).state.load(), shm::ClientState::kDead);
    EXPECT_EQ(pool_->view().live().deaths.load(), 0U);

    // No other pass takes them, and nobody gets the id: client 3 is the last.
    pool_->sweep([&](const shm::Reclaimed& taken) { EXPECT_EQ(taken.slots, 0U); });
    pool_->repair();
    EXPECT_EQ(census().held_by[0], 5U);
    EXPECT_EQ(raw(attach()), 3U);
    EXPECT_FALSE(pool_->attach(ClientIdentity{}));

    // Another death meanwhile, and somebody else's gets and puts.
    pool_->detach(second, true, [&](const shm::Reclaimed& taken) {
        ++ended;
        EXPECT_EQ(taken.slots, 6U);
    });
    EXPECT_EQ(census().held_by[0], 11U);
    EXPECT_EQ(get(shm::ClientId{3}, 1000).size(), 128U - 11);

    erases.set_value();
    settle();
    EXPECT_EQ(ended, 2);
    EXPECT_EQ(census().held, 128U - 11);
    EXPECT_EQ(census().free, 11U);
    EXPECT_EQ(read_secret(slots[2].index), kErased);
    EXPECT_EQ(pool_->view().live().deaths.load(), 2U);
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
    EXPECT_TRUE(pool_->attach(ClientIdentity{}));
}

TEST_F(ServedPoolTest, WhatADaemonThatEndsHasNotErasedIsErasedByTheNext) {
    make(",erase_on_put=yes");
    const shm::ClientId id = attach();
    const auto slots = get(id, 5);
    ASSERT_EQ(slots.size(), 5U);
    write_secret(slots[3].index);
    worker_.stop();
    pool_->detach(id, true, [](const shm::Reclaimed&) { FAIL() << "it was not erased"; });
    settle();
    EXPECT_EQ(census().held_by[0], 5U);
    EXPECT_EQ(read_secret(slots[3].index), "secret");
    restart();
    EXPECT_EQ(census().free, 128U);
    EXPECT_EQ(read_secret(slots[3].index), kErased);
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
}

TEST_F(ServedPoolTest, ALargePoolIsReclaimedInPieces) {
    make("", "64x250000");
    const shm::ClientId dead = attach();
    ASSERT_EQ(get(dead, 200'000).size(), 200'000U);
    bool ended = false;
    pool_->detach(dead, true, [&](const shm::Reclaimed& taken) {
        ended = true;
        EXPECT_EQ(taken.slots, 200'000U);
    });
    EXPECT_FALSE(ended);
    const shm::ClientId other = attach();
    EXPECT_NE(other, dead) << "its id is taken as long as something of it may be";
    EXPECT_EQ(get(other, 1000).size(), 1000U);
    EXPECT_EQ(io_.run_one(), 1U);
    EXPECT_FALSE(ended);
    settle();
    EXPECT_TRUE(ended);
    EXPECT_EQ(census().held, 1000U);
    EXPECT_TRUE(shm::audit(pool_->view()).findings.empty());
}

TEST_F(ServedPoolTest, GrowthsComeOneAfterTheOtherWhileOthersAttach) {
    make(",max_slots=1000");
    std::promise<void> allocates = occupy_worker();
    std::vector<std::uint32_t> added;
    for (const std::uint32_t slots : {100U, 50U}) {
        pool_->grow(slots, [&](const Growth& growth) { added.push_back(growth.added); });
    }
    EXPECT_EQ(pool_->view().live().growing.load(), 100U);
    EXPECT_EQ(get(attach(), 1000).size(), 128U);
    EXPECT_TRUE(added.empty());
    allocates.set_value();
    settle();
    EXPECT_THAT(added, testing::ElementsAre(100U, 50U));
    EXPECT_EQ(census().slots, 278U);
    EXPECT_EQ(pool_->view().live().growing.load(), 0U);
}

// The daemon's own memory runs out as a segment is made, or as it is announced.
class Starved : public NamedBacking {
public:
    Starved(const PoolConfig& config, const std::string* step)
        : NamedBacking(config, nullptr, nullptr), step_(step) {}
    UniqueFd create(std::uint32_t number) override {
        starve(number, "make");
        return NamedBacking::create(number);
    }
    void keep(std::uint32_t number, int fd, const shm::Uuid& uuid) override {
        starve(number, "announce");
        NamedBacking::keep(number, fd, uuid);
    }

private:
    void starve(std::uint32_t number, const std::string& step) const {
        if (number != 0 && step == *step_) {
            throw std::bad_alloc();
        }
    }
    const std::string* step_;
};

TEST_F(ServedPoolTest, AGrowthForWhichTheDaemonHasNoMemoryIsRefusedAndThePoolGoesOn) {
    PoolConfig config = parse_pool(name_ + ":64x128,max_slots=1000", "test");
    std::string step;
    auto storage = create_storage(config, epoch_now(), std::make_shared<Starved>(config, &step));
    serve(std::move(config), std::move(storage));
    for (const std::string starved : {"make", "announce"}) {
        step = starved;
        const Growth growth = grow(64);
        ASSERT_TRUE(growth.refused) << step;
        EXPECT_EQ(growth.refused->code(), std::errc::not_enough_memory);
        EXPECT_EQ(pool_->view().live().growing.load(), 0U);
        EXPECT_EQ(mempool_test::objects_of(name_).size(), 1U);
        EXPECT_EQ(census().slots, 128U);
    }
    EXPECT_EQ(pool_->view().live().grow_failures.load(), 2U);
    step.clear();
    EXPECT_EQ(grow(64).added, 64U);
}

TEST_F(ServedPoolTest, AGrowthThatTheDaemonDidNotOutliveIsNotTriedAgainAtOnce) {
    make(",max_slots=1000,low_watermark=0");
    worker_.stop();
    pool_->grow(100, [](const Growth&) { FAIL() << "nothing was allocated"; });
    restart();
    EXPECT_EQ(pool_->view().live().growth_deaths.load(), 1U);
    EXPECT_EQ(pool_->view().live().growing.load(), 0U);
    EXPECT_EQ(mempool_test::objects_of(name_).size(), 1U);
    pool_->view().live().grow_wanted.store(1);
    consider_growth();
    EXPECT_EQ(census().slots, 128U);
    pool_->consider_growth(ServedPool::Clock::now() + std::chrono::seconds{5});
    settle();
    EXPECT_EQ(census().slots, 256U);
    EXPECT_EQ(pool_->view().live().growth_deaths.load(), 0U) << "one that succeeds ends the row";
}

TEST_F(ServedPoolTest, AGrowthByHandWaitsForNothing) {
    make(",max_slots=1000");
    worker_.stop();
    pool_->grow(100, [](const Growth&) {});
    restart();
    EXPECT_EQ(grow(10).added, 10U);
}

TEST_F(ServedPoolTest, ACleanEndInTheMiddleOfAGrowthLeavesNothingOfIt) {
    make(",max_slots=1000");
    worker_.stop();
    pool_->grow(100, [](const Growth&) {});
    EXPECT_EQ(mempool_test::objects_of(name_).size(), 2U);
    pool_->end_service();
    EXPECT_EQ(mempool_test::objects_of(name_).size(), 1U);
    restart();
    EXPECT_EQ(pool_->view().live().growth_deaths.load(), 0U);
}

TEST_F(ServedPoolTest, APoolThatIsGivenUpStaysLockedWhileSomethingIsUnderWay) {
    make(",max_slots=1000,erase_on_put=yes");
    const shm::ClientId id = attach();
    get(id, 3);
    std::promise<void> works = occupy_worker();
    int ended = 0;
    pool_->grow(100, [&](const Growth& growth) {
        ++ended;
        EXPECT_TRUE(growth.refused);
    });
    pool_->detach(id, true, [&](const shm::Reclaimed&) { ++ended; });
    pool_->give_up();
    EXPECT_THROW(Storage::reattach(pool_->config()), std::system_error);
    works.set_value();
    settle();
    EXPECT_EQ(ended, 2);
    EXPECT_NE(Storage::reattach(pool_->config()), nullptr);
    EXPECT_EQ(mempool_test::objects_of(name_).size(), 1U);
}

}  // namespace
}  // namespace mempoold
