// Pools of memfds: sealed, without a name, handed from daemon to daemon by the service manager.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "daemon/storage/pool_start.hpp"
#include "fake_manager.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"
#include "support/storage.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using mempool_test::objects_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kCreated = 1'700'000'000;

class MemfdBackingTest : public testing::Test {
protected:
    PoolConfig config(const std::string& keys = ",backing=memfd") const {
        return parse_pool(name_ + ":100x50,max_slots=1000" + keys, "test");
    }
    std::string first() const { return "mempool." + name_; }

    const std::string name_ = mempool_test::unique_pool("memfd");
};

TEST_F(MemfdBackingTest, SegmentsHaveNoNameAndTheirSizeIsSealed) {
    const auto storage = start_storage(config(), kCreated);
    add_segment(*storage, 70, kCreated);
    EXPECT_EQ(shm::count_depot(storage->view()), 120U);
    EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
    EXPECT_THAT(objects_of(name_), IsEmpty());
    for (const StoredSegment& segment : storage->segments()) {
        const int fd = segment.writable.get();
        struct stat status {};
        ASSERT_EQ(::fstat(fd, &status), 0);
        EXPECT_EQ(status.st_mode & 0777U, 0600U);
        for (const off_t size : {off_t{0}, off_t{4096}, status.st_size + 4096}) {
            EXPECT_EQ(::ftruncate(fd, size), -1);
            EXPECT_EQ(errno, EPERM);
        }
        EXPECT_EQ(::fallocate(fd, 0, status.st_size, 4096), -1);
        EXPECT_EQ(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1) << "the seals themselves are sealed";
    }
}

TEST_F(MemfdBackingTest, TheNextDaemonGetsThePoolFromTheServiceManager) {
    FakeManager manager;
    FdStore store;
    auto storage = start_storage(config(), kCreated, &store);
    add_segment(*storage, 70, kCreated);
    storage->view().live().daemon_starts.store(1);
    const std::uint64_t key = storage->key();
    storage.reset();
    EXPECT_THAT(manager.names(), ElementsAre(first(), first() + ".1"));

    auto passed = manager.passed();
    store = FdStore(passed);
    EXPECT_THAT(passed, IsEmpty());
    storage = start_storage(config(), kCreated, &store);
    EXPECT_EQ(storage->key(), key);
    EXPECT_EQ(storage->slots(), 120U);
    add_segment(*storage, 30, kCreated);
    EXPECT_EQ(manager.names().size(), 3U);
    storage->remove_objects();
    EXPECT_THAT(manager.names(), IsEmpty());
}

TEST_F(MemfdBackingTest, AFormerPoolInUseStaysWithTheServiceManager) {
    FakeManager manager;
    FdStore store;
    auto storage = start_storage(config(), kCreated, &store);
    add_segment(*storage, 70, kCreated);
    const std::uint64_t key = storage->key();
    storage->view().header().layout_version = shm::kFormerLayoutVersion;
    storage.reset();
    auto passed = manager.passed();
    store = FdStore(passed);
    for (int k = 0; k < 2; ++k) {  // at the start, and at a reload
        EXPECT_THROW(start_storage(config(), kCreated, &store, nullptr, users(1)), InUse);
        EXPECT_THAT(manager.names(), ElementsAre(first(), first() + ".1"));
        EXPECT_THAT(store.left(), ElementsAre(name_));
    }
    EXPECT_NE(start_storage(config(), kCreated, &store, nullptr, users(0))->key(), key);
    EXPECT_THAT(manager.names(), ElementsAre(first()));
}

TEST_F(MemfdBackingTest, AFormerPoolThatCannotBeJudgedIsTakenForOneInUse) {
    FakeManager manager;
    FdStore store;
    start_storage(config(), kCreated, &store)->view().header().layout_version =
        shm::kFormerLayoutVersion;
    auto passed = manager.passed();
    store = FdStore(passed);
    const PoolStart::Look fails = []() -> std::optional<std::vector<FormerClient>> {
        throw std::bad_alloc();
    };
    for (const PoolStart::FormerClients& unknown :
         {PoolStart::FormerClients([](UniqueFd) -> PoolStart::Look { throw std::bad_alloc(); }),
          PoolStart::FormerClients([&](UniqueFd) { return fails; })}) {
        try {
            start_storage(config(), kCreated, &store, nullptr, unknown);
            FAIL() << "it may be in use";
        } catch (const InUse& e) {
            EXPECT_THAT(e.what(), HasSubstr("cannot be told (std::bad_alloc)"));
        }
        EXPECT_THAT(manager.names(), ElementsAre(first()));
        EXPECT_THAT(store.left(), ElementsAre(name_));
    }
}

TEST_F(MemfdBackingTest, AFormerPoolInUseIsLeftThoughNamesAreConfiguredNow) {
    FakeManager manager;
    FdStore store;
    {
        const auto storage = start_storage(config(), kCreated, &store);
        add_segment(*storage, 70, kCreated);
        storage->view().header().layout_version = shm::kFormerLayoutVersion;
    }
    auto passed = manager.passed();
    store = FdStore(passed);
    const PoolConfig named = config(",backing=shm");
    for (int k = 0; k < 2; ++k) {  // at the start, and at a reload
        EXPECT_THROW(start_storage(named, kCreated, &store, nullptr, users(1)), InUse);
        EXPECT_THAT(manager.names(), ElementsAre(first(), first() + ".1"));
        EXPECT_THAT(store.left(), ElementsAre(name_));
        EXPECT_THAT(objects_of(name_), IsEmpty());
    }
    const auto storage = start_storage(named, kCreated, &store, nullptr, users(0));
    EXPECT_EQ(objects_of(name_).size(), 1U);
    EXPECT_THAT(manager.names(), IsEmpty());
}

TEST_F(MemfdBackingTest, AFormerPoolInUseIsLeftThoughMemfdsAreConfiguredNow) {
    start_storage(config(",backing=shm"), kCreated);
    mempool_test::make_former(name_);
    const std::vector<std::string> before = objects_of(name_);
    for (int k = 0; k < 2; ++k) {  // at the start, and at a reload
        EXPECT_THROW(start_storage(config(), kCreated, nullptr, nullptr, users(1)), InUse);
        EXPECT_EQ(objects_of(name_), before);
    }
    const auto storage = start_storage(config(), kCreated, nullptr, nullptr, users(0));
    ASSERT_EQ(objects_of(name_).size(), 1U);
    EXPECT_THAT(objects_of(name_).front(), HasSubstr(".aside-"));
}

TEST_F(MemfdBackingTest, APoolOfThisLayoutIsNotKeptFromServiceByItsHeader) {
    FakeManager manager;
    FdStore store;
    const mempool_test::TemporaryDirectory directory;
    RuntimeDirectory runtime(directory.path() + "/s.d");
    std::uint64_t key = 0;
    {
        const auto storage = start_storage(config(), kCreated, &store, &runtime);
        key = storage->key();
        storage->view().header().layout_version = shm::kFormerLayoutVersion;
    }
    auto passed = manager.passed();
    store = FdStore(passed);
    EXPECT_NE(start_storage(config(), kCreated, &store, &runtime, users(1))->key(), key);
}

// However many it has: what fails for want of one gives up nothing.
TEST_F(MemfdBackingTest, APoolForWhichThereAreTooFewDescriptorsStaysWithTheServiceManager) {
    FakeManager manager;
    FdStore store;
    auto storage = start_storage(config(), kCreated, &store);
    add_segment(*storage, 70, kCreated);
    storage->view().live().daemon_starts.store(1);
    const std::uint64_t key = storage->key();
    storage.reset();
    auto passed = manager.passed();
    store = FdStore(passed);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    for (rlimit few{3, before.rlim_max}; !storage; ++few.rlim_cur) {
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
        try {
            storage = start_storage(config(), kCreated, &store);
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), std::errc::too_many_files_open) << e.what();
        }
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
        ASSERT_THAT(manager.names(), ElementsAre(first(), first() + ".1")) << few.rlim_cur;
        ASSERT_NE(storage == nullptr, store.left().empty()) << few.rlim_cur;
    }
    EXPECT_EQ(storage->key(), key);
    EXPECT_EQ(storage->slots(), 120U);
}

// It may be that, or that somebody wrote over the count: what is whole may be in use.
TEST_F(MemfdBackingTest, ASegmentThatWasNotAnnouncedIsServedIfItIsWhole) {
    FakeManager manager;
    FdStore store;
    auto storage = start_storage(config(), kCreated, &store);
    add_segment(*storage, 70, kCreated);
    storage->view().live().daemon_starts.store(1);
    storage->view().live().segment_count.store(1);  // killed before the announcement
    storage.reset();
    auto passed = manager.passed();
    store = FdStore(passed);
    storage = start_storage(config(), kCreated, &store);
    EXPECT_EQ(storage->slots(), 120U);
    EXPECT_EQ(manager.names().size(), 2U);
}

TEST_F(MemfdBackingTest, AMissingSegmentMakesAnEmptyPoolTakeThePlace) {
    FakeManager manager;
    FdStore store;
    auto storage = start_storage(config(), kCreated, &store);
    add_segment(*storage, 70, kCreated);
    storage->view().live().daemon_starts.store(1);
    const std::uint64_t key = storage->key();
    storage.reset();
    store.forget(name_, 1);
    auto passed = manager.passed();
    store = FdStore(passed);
    storage = start_storage(config(), kCreated, &store);
    EXPECT_NE(storage->key(), key);
    EXPECT_EQ(storage->slots(), 50U);
    EXPECT_THAT(manager.names(), ElementsAre(first()));
}

TEST_F(MemfdBackingTest, WhatIsNotSealedIsNotServed) {
    FakeManager manager;
    FdStore store;
    start_storage(config(",backing=shm"), kCreated)->view().live().daemon_starts.store(1);
    FdStore::Descriptors passed;
    passed.emplace_back(first(),
                        UniqueFd{::open(("/dev/shm/" + first()).c_str(), O_RDWR | O_CLOEXEC)});
    mempool_test::remove_pool(name_);
    store = FdStore(passed);
    const auto backing = make_backing(config(), &store);
    try {
        Storage::reattach(config(), backing);
        FAIL() << "served";
    } catch (const Unusable& e) {
        EXPECT_THAT(e.what(), HasSubstr("no sealed memfd"));
    }
}

TEST_F(MemfdBackingTest, APoolThatIsNoLongerConfiguredIsLetGo) {
    FakeManager manager;
    FdStore store;
    start_storage(config(), kCreated, &store);
    auto passed = manager.passed();
    passed.emplace_back("control", UniqueFd{});
    passed.emplace_back("mempool.not/a.pool", UniqueFd{::dup(0)});
    store = FdStore(passed);
    ASSERT_EQ(passed.size(), 1U) << "what is no segment is left to others";
    EXPECT_EQ(passed.front().first, "mempool.not/a.pool");
    EXPECT_THAT(store.left(), ElementsAre(name_));
    store.drop(name_);
    EXPECT_THAT(store.left(), IsEmpty());
    EXPECT_THAT(manager.names(), IsEmpty());
}

TEST_F(MemfdBackingTest, ANamedPoolOfThatNameIsSetAside) {
    start_storage(config(",backing=shm"), kCreated);
    const auto storage = start_storage(config(), kCreated);
    EXPECT_EQ(storage->slots(), 50U);
    ASSERT_EQ(objects_of(name_).size(), 1U);
    EXPECT_THAT(objects_of(name_).front(), HasSubstr(".aside-"));
}

TEST_F(MemfdBackingTest, NoNameKeepsItFromBeingServed) {
    const auto other = start_storage(config(",backing=shm"), kCreated);
    EXPECT_EQ(start_storage(config(), kCreated)->slots(), 50U);
    EXPECT_EQ(objects_of(name_).size(), 1U) << "what another daemon serves is left alone";
    mempool_test::remove_pool(name_);
    ASSERT_EQ(::mkfifo(("/dev/shm/" + first()).c_str(), 0600), 0);
    EXPECT_EQ(start_storage(config(), kCreated)->slots(), 50U);
}

// A named pool whose names are all gone has nothing that a name could be given to again: the
// service manager keeps it.
class NamelessPoolTest : public MemfdBackingTest {
protected:
    NamelessPoolTest() : storage_(start()), key_(storage_->key()) {
        mempool_test::remove_pool(name_);
        storage_->check_names();
    }

    std::unique_ptr<Storage> start() {
        return start_storage(config(",backing=shm"), kCreated, &store_, &runtime_);
    }
    // What the next daemon is passed.
    FdStore::Descriptors end_daemon() {
        storage_.reset();
        return manager_.passed();
    }

    FakeManager manager_;
    FdStore store_;
    const mempool_test::TemporaryDirectory directory_;
    RuntimeDirectory runtime_{directory_.path() + "/s.d"};
    std::unique_ptr<Storage> storage_;
    const std::uint64_t key_;
};

TEST_F(NamelessPoolTest, IsKeptByTheServiceManager) {
    EXPECT_THAT(storage_->missing_names(), HasSubstr("was removed"));
    EXPECT_THAT(manager_.names(), ElementsAre(first()));
    auto passed = end_daemon();
    store_ = FdStore(passed);
    storage_ = start();
    EXPECT_EQ(storage_->key(), key_);
    storage_->remove_objects();
    EXPECT_THAT(manager_.names(), IsEmpty());
}

TEST_F(NamelessPoolTest, ThatIsLockedWaitsForTheNextTry) {
    auto passed = end_daemon();
    ASSERT_EQ(passed.size(), 1U);
    const std::string file = "/proc/self/fd/" + std::to_string(passed.front().second.get());
    UniqueFd other{::open(file.c_str(), O_RDWR | O_CLOEXEC)};
    ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
    store_ = FdStore(passed);
    EXPECT_THROW(start(), std::system_error);
    EXPECT_THAT(store_.left(), ElementsAre(name_));
    other.reset();
    EXPECT_EQ(start()->key(), key_);
}

TEST_F(NamelessPoolTest, ThatIsDamagedIsGivenUp) {
    storage_->view().header().magic = 0;
    auto passed = end_daemon();
    store_ = FdStore(passed);
    storage_ = start();
    EXPECT_NE(storage_->key(), key_);
    EXPECT_THAT(manager_.names(), IsEmpty());
    EXPECT_THAT(store_.left(), IsEmpty());
    EXPECT_TRUE(runtime_.index().aside.empty()) << "no file has such a name";
    storage_->remove_objects();
}

TEST_F(MemfdBackingTest, MoreThanThereIsMemoryIsRefusedAtOnce) {
    try {
        start_storage(parse_pool(name_ + ":1GiBx50000,backing=memfd", "test"), kCreated);
        FAIL() << "50 TiB of memory";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::no_space_on_device);
        EXPECT_THAT(e.what(), HasSubstr("of memory"));
    }
}

TEST(FdStore, AManagerThatCannotBeReachedIsAnError) {
    ::setenv("NOTIFY_SOCKET", "/no/such/place", 1);
    FdStore store;
    EXPECT_THROW(store.keep("pool", 0, 0), std::system_error);
    ::unsetenv("NOTIFY_SOCKET");
    store.keep("pool", 0, 0);  // nobody keeps anything
}

}  // namespace
}  // namespace mempoold
