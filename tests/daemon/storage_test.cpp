// A pool's objects: made, found again, grown, set aside.
#include "daemon/storage/storage.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>

#include "daemon/storage/pool_start.hpp"
#include "mempool/shm/audit.hpp"
#include "mempool/shm/census.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using mempool_test::objects_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::uint64_t kNow = 1'700'000'000;

class StorageTest : public testing::Test {
protected:
    PoolConfig config(const std::string& keys = ",max_slots=1000") const {
        return parse_pool(name_ + ":100x50" + keys, "test");
    }
    std::string path(const std::string& suffix = "") const {
        return "/dev/shm/mempool." + name_ + suffix;
    }
    std::string first() const { return "mempool." + name_; }

    // Overwrites bytes of an object that nobody serves.
    void poke(std::uint64_t offset, const std::string& bytes,
              const std::string& suffix = "") const {
        const UniqueFd fd{::open(path(suffix).c_str(), O_WRONLY | O_CLOEXEC)};
        ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
                  static_cast<ssize_t>(bytes.size()));
    }
    template <typename T>
    void poke_value(std::uint64_t offset, T value, const std::string& suffix = "") const {
        poke(offset, std::string(reinterpret_cast<const char*>(&value), sizeof(value)), suffix);
    }

    // A pool that was served once and has two more segments.
    void make_grown_pool() const {
        const auto storage = Storage::create(config(), kNow);
        storage->add_segment(70, kNow);
        storage->add_segment(7, kNow);
        storage->view().live().daemon_starts.store(1);
    }

    // Starts the pool over what is there: the old must be set aside, the new one be whole.
    void expect_set_aside() const {
        const auto storage = start_storage(config(), kNow);
        EXPECT_EQ(storage->slots(), 50U);
        EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
        const auto objects = objects_of(name_);
        ASSERT_GE(objects.size(), 2U);
        EXPECT_EQ(objects[0], first());
        EXPECT_THAT(objects[1], StartsWith(first() + ".aside-20231114T221320"));
    }

    const std::string name_ = mempool_test::unique_pool("storage");
};

TEST_F(StorageTest, ANewPoolIsWholeAndAllocated) {
    const auto storage = Storage::create(config(), kNow);
    EXPECT_EQ(storage->slots(), 50U);
    EXPECT_EQ(shm::count_depot(storage->view()), 50U);
    EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_EQ(static_cast<std::uint64_t>(status.st_size),
              shm::segment_file_bytes(storage->geometry(), 0, 50));
    EXPECT_GE(static_cast<std::uint64_t>(status.st_blocks) * 512,
              50U * storage->geometry().slot_stride);
}

TEST_F(StorageTest, ModeAndGroupAreAsConfigured) {
    const auto storage =
        Storage::create(config(",mode=0640,group=" + std::to_string(::getgid())), kNow);
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0640U);
    EXPECT_EQ(status.st_gid, ::getgid());
}

TEST_F(StorageTest, NothingThereIsNoError) { EXPECT_EQ(Storage::reattach(config()), nullptr); }

TEST_F(StorageTest, AFoundPoolKeepsWhatItHas) {
    make_grown_pool();
    const auto storage = start_storage(config(), kNow);
    EXPECT_EQ(storage->slots(), 127U);
    EXPECT_EQ(storage->segments().size(), 3U);
    EXPECT_THAT(objects_of(name_), ElementsAre(first(), first() + ".1", first() + ".2"));
}

TEST_F(StorageTest, OtherSizesInTheConfigurationLeaveAFoundPoolAsItIs) {
    make_grown_pool();
    const auto storage = start_storage(parse_pool(name_ + ":999x9", "test"), kNow);
    EXPECT_EQ(storage->geometry().shape.slot_size, 100U);
    EXPECT_EQ(storage->slots(), 127U);
}

TEST_F(StorageTest, APoolIsServedOnce) {
    const auto storage = Storage::create(config(), kNow);
    try {
        Storage::reattach(config());
        FAIL() << "a second owner";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::device_or_resource_busy);
        EXPECT_THAT(e.what(), HasSubstr("served by another mempoold"));
    }
}

TEST_F(StorageTest, GrowthAddsSlotsAndObjects) {
    const auto storage = Storage::create(config(), kNow);
    storage->add_segment(70, kNow);
    EXPECT_EQ(storage->slots(), 120U);
    EXPECT_EQ(shm::count_depot(storage->view()), 120U);
    EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
    struct stat status {};
    ASSERT_EQ(::stat(path(".1").c_str(), &status), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(status.st_size),
              shm::segment_file_bytes(storage->geometry(), 1, 70));
}

TEST_F(StorageTest, GrowthBeyondTheIndicesIsRefused) {
    const auto storage = Storage::create(config(",max_slots=50"), kNow);
    EXPECT_THROW(storage->add_segment(1U << 20U, kNow), std::system_error);
    EXPECT_EQ(storage->slots(), 50U);
    EXPECT_THAT(objects_of(name_), ElementsAre(first()));
}

TEST_F(StorageTest, EraseZeroesExactlyOneSlot) {
    const auto storage = Storage::create(config(), kNow);
    storage->add_segment(70, kNow);
    const shm::Geometry& g = storage->geometry();
    const shm::SegmentEntry entry = storage->segments()[1].entry;
    const std::string marks(2 * g.slot_stride, 'x');
    poke(shm::kPage + g.slot_stride, marks, ".1");
    EXPECT_EQ(storage->erase(shm::SlotIndex{entry.first_index + 1}), 0);
    std::string found(2 * g.slot_stride, '?');
    ASSERT_EQ(read_at(storage->segments()[1].writable.get(), found.data(), found.size(),
                      shm::kPage + g.slot_stride),
              0);
    EXPECT_EQ(found.substr(0, 100), std::string(100, '\0'));
    EXPECT_EQ(found.substr(g.slot_stride), std::string(g.slot_stride, 'x'));
    EXPECT_NE(storage->erase(shm::SlotIndex{50}), 0) << "an index in the gap between segments";
}

TEST_F(StorageTest, InspectorsGetADescriptorThatOnlyReads) {
    const auto storage = Storage::create(config(), kNow);
    const StoredSegment& segment = storage->segments().front();
    EXPECT_EQ(::fcntl(segment.read_only.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_EQ(::fcntl(segment.writable.get(), F_GETFL) & O_ACCMODE, O_RDWR);
}

TEST_F(StorageTest, RemoveTakesAllObjects) {
    make_grown_pool();
    start_storage(config(), kNow)->remove_objects();
    EXPECT_TRUE(objects_of(name_).empty());
}

TEST_F(StorageTest, ATruncatedPoolIsSetAside) {
    make_grown_pool();
    ASSERT_EQ(::truncate(path().c_str(), 8192), 0);
    expect_set_aside();
    EXPECT_EQ(objects_of(name_).size(), 4U) << "its segments go along";
}

TEST_F(StorageTest, APoolThatLostItsLastPageIsSetAside) {
    make_grown_pool();
    const auto bytes = std::filesystem::file_size(path());
    ASSERT_EQ(::truncate(path().c_str(), static_cast<off_t>(bytes - 4096)), 0);
    expect_set_aside();
}

TEST_F(StorageTest, AZeroedHeaderIsSetAside) {
    make_grown_pool();
    poke(0, std::string(shm::kPage, '\0'));
    expect_set_aside();
}

TEST_F(StorageTest, ANewerLayoutIsSetAside) {
    make_grown_pool();
    poke_value(offsetof(shm::Header, layout_version), shm::kLayoutVersion + 1);
    expect_set_aside();
}

TEST_F(StorageTest, AContradictoryGeometryIsSetAside) {
    make_grown_pool();
    poke_value(offsetof(shm::Header, geometry) + offsetof(shm::Geometry, slots_offset),
               std::uint64_t{1} << 60U);
    expect_set_aside();
}

TEST_F(StorageTest, AnImpossibleSegmentTableIsSetAside) {
    make_grown_pool();
    poke_value(shm::kPage + offsetof(shm::Live, segment_count), 300U);
    expect_set_aside();
}

TEST_F(StorageTest, AForeignSegmentEntryIsSetAside) {
    make_grown_pool();
    poke_value(2 * shm::kPage + sizeof(shm::SegmentEntry) + offsetof(shm::SegmentEntry, slot_count),
               0xffff'fff0U);
    expect_set_aside();
}

TEST_F(StorageTest, AMissingSegmentSetsThePoolAside) {
    make_grown_pool();
    ASSERT_EQ(::unlink(path(".2").c_str()), 0);
    expect_set_aside();
}

TEST_F(StorageTest, ASegmentOfAnotherPoolSetsThePoolAside) {
    make_grown_pool();
    poke(offsetof(shm::SegmentHeader, uuid), std::string(16, 'u'), ".1");
    expect_set_aside();
}

TEST_F(StorageTest, AnotherPoolUnderThisNameIsSetAside) {
    make_grown_pool();
    poke(offsetof(shm::Header, name), "somebody-else");
    expect_set_aside();
}

TEST_F(StorageTest, AFileOfSomethingElseIsSetAside) {
    std::ofstream(path()) << "not a pool at all";
    expect_set_aside();
}

TEST_F(StorageTest, ADirectoryOrFifoInTheWayIsSetAside) {
    ASSERT_TRUE(std::filesystem::create_directory(path()));
    expect_set_aside();
    mempool_test::remove_pool(name_);
    ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
    expect_set_aside();
}

TEST_F(StorageTest, ASymbolicLinkIsNotFollowed) {
    const std::string target = path(".target");
    std::ofstream(target) << "precious";
    std::filesystem::create_symlink(target, path());
    expect_set_aside();
    EXPECT_EQ(std::filesystem::file_size(target), 8U);
}

TEST_F(StorageTest, AForeignUsersObjectIsSetAside) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    make_grown_pool();
    ASSERT_EQ(::chown(path().c_str(), 65534, 65534), 0);
    expect_set_aside();
}

TEST_F(StorageTest, TwoSetAsideInOneSecondGetTwoNames) {
    for (int k = 0; k < 3; ++k) {
        std::ofstream(path()) << "not a pool";
        ASSERT_NE(set_aside(name_, 0, kNow), "");
    }
    EXPECT_EQ(objects_of(name_).size(), 3U);
}

TEST_F(StorageTest, ACreationThatWasCutOffIsMadeAnew) {
    std::ofstream(path()).close();
    EXPECT_EQ(start_storage(config(), kNow)->slots(), 50U);
    EXPECT_THAT(objects_of(name_), ElementsAre(first()));

    ASSERT_EQ(::truncate(path().c_str(), 0), 0);
    ASSERT_EQ(::truncate(path().c_str(), 1 << 20), 0);
    EXPECT_EQ(start_storage(config(), kNow)->slots(), 50U);
    EXPECT_THAT(objects_of(name_), ElementsAre(first()));

    poke_value(offsetof(shm::Header, state), shm::PoolState::kCreating);
    EXPECT_EQ(start_storage(config(), kNow)->slots(), 50U);
    EXPECT_THAT(objects_of(name_), ElementsAre(first()));
}

TEST_F(StorageTest, APoolThatWasServedIsNeverTakenForUnfinished) {
    make_grown_pool();
    poke_value(offsetof(shm::Header, state), shm::PoolState::kCreating);
    expect_set_aside();
}

TEST_F(StorageTest, LeftoversOfAGrowthAreRemovedAndForeignOnesSetAside) {
    make_grown_pool();
    std::filesystem::copy_file(path(".2"), path(".3"));
    std::ofstream(path(".4")).close();
    std::ofstream(path(".5")) << std::string(8192, 'z');
    const auto storage = start_storage(config(), kNow);
    const auto objects = objects_of(name_);
    ASSERT_EQ(objects.size(), 4U);
    EXPECT_THAT(objects[3], testing::EndsWith(".5"));
    EXPECT_THAT(objects[3], HasSubstr(".aside-"));
}

TEST_F(StorageTest, MoreThanThereIsMemoryIsRefusedAtOnce) {
    try {
        Storage::create(parse_pool(name_ + ":1GiBx50000", "test"), kNow);
        FAIL() << "50 TiB of memory";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::no_space_on_device);
        EXPECT_THAT(e.what(), HasSubstr("in /dev/shm"));
    }
    EXPECT_TRUE(objects_of(name_).empty());
}

}  // namespace
}  // namespace mempoold
