// A pool's objects: made, found again, grown, set aside.
#include "daemon/storage/storage.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

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
using testing::StartsWith;

constexpr std::uint64_t kNow = 1'700'000'000;

class StorageTest : public testing::Test {
protected:
    PoolConfig config(const std::string& keys = ",max_slots=1000") const {
        return parse_pool(name_ + ":100x50" + keys, "test");
    }
    // Of the plain name, or of segment `number`.
    std::string path(const std::string& suffix = "") const {
        return "/dev/shm/mempool." + name_ + suffix;
    }
    std::string path(std::uint32_t number) const {
        return "/dev/shm/" + mempool_test::object_of(name_, number);
    }
    std::unique_ptr<Storage> create(const std::string& keys = ",max_slots=1000") {
        return create_storage(config(keys), kNow, make_backing(config(keys), nullptr, &runtime_));
    }
    std::unique_ptr<Storage> start() { return start_storage(config(), kNow, nullptr, &runtime_); }
    std::string first() const { return "mempool." + name_; }

    // Overwrites bytes of an object that nobody serves.
    void poke(std::uint64_t offset, const std::string& bytes, std::uint32_t number = 0) const {
        const UniqueFd fd{::open(path(number).c_str(), O_WRONLY | O_CLOEXEC)};
        ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
                  static_cast<ssize_t>(bytes.size()));
    }
    template <typename T>
    void poke_value(std::uint64_t offset, T value, std::uint32_t number = 0) const {
        poke(offset, std::string(reinterpret_cast<const char*>(&value), sizeof(value)), number);
    }

    static std::uint64_t key_of(const std::string& object) {
        const UniqueFd fd{::open(object.c_str(), O_RDONLY | O_CLOEXEC)};
        std::uint64_t key = 0;
        read_at(fd.get(), &key, sizeof(key), offsetof(shm::Header, uuid));
        return key | 1U;
    }

    // Makes the grown pool one of a release that had plain names and no index.
    void make_plain() {
        mempool_test::make_former(name_);
        std::filesystem::remove(path());
        for (std::uint32_t number = 3; number-- > 0;) {
            poke_value(2 * shm::kPage + number * sizeof(shm::SegmentEntry) +
                           offsetof(shm::SegmentEntry, object),
                       std::uint64_t{0});
            std::filesystem::rename(path(number),
                                    number == 0 ? path() : path("." + std::to_string(number)));
        }
        runtime_.update([](shm::PoolIndex& index) { index = {}; });
    }

    // A pool that was served once and has two more segments.
    void make_grown_pool() {
        const auto storage = create();
        add_segment(*storage, 70, kNow);
        add_segment(*storage, 7, kNow);
        storage->view().live().daemon_starts.store(1);
    }

    // Starts the pool over what is there: the old must be set aside, the new one be whole.
    void expect_set_aside() {
        const auto storage = start();
        EXPECT_EQ(storage->slots(), 50U);
        EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
        EXPECT_THAT(objects_of(name_),
                    testing::Contains(StartsWith(first() + ".aside-20231114T221320")));
        ASSERT_FALSE(runtime_.index().aside.empty());
        EXPECT_THAT(runtime_.index().aside.back().object, StartsWith(first() + ".aside-"));
        EXPECT_FALSE(runtime_.index().aside.back().reason.empty());
    }

    // Starts the pool over what stands under its plain name: that must stay as it is.
    void expect_left_alone() {
        struct stat before {};
        ASSERT_EQ(::lstat(path().c_str(), &before), 0);
        const auto storage = start();
        EXPECT_EQ(storage->slots(), 50U);
        EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
        struct stat after {};
        ASSERT_EQ(::lstat(path().c_str(), &after), 0);
        EXPECT_EQ(after.st_ino, before.st_ino);
        EXPECT_EQ(objects_of(name_).size(), 2U);
        storage->check_names();
        EXPECT_THAT(storage->missing_names(), HasSubstr(path() + " belongs to uid "));
    }

    const mempool_test::TemporaryDirectory directory_;
    RuntimeDirectory runtime_{directory_.path() + "/s.d"};
    const std::string name_ = mempool_test::unique_pool("storage");
};

TEST_F(StorageTest, ANewPoolIsWholeAndAllocated) {
    const auto storage = create();
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
    const auto storage = create(",mode=0640,group=" + std::to_string(::getgid()));
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0640U);
    EXPECT_EQ(status.st_gid, ::getgid());
}

// What `work` returns, done by nobody in a process of its own.
int as_nobody(const std::function<int()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(::setgroups(0, nullptr) == 0 && ::setresgid(65534, 65534, 65534) == 0 &&
                        ::setresuid(65534, 65534, 65534) == 0
                    ? work()
                    : 125);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(StorageTest, WhatAStrangerPutsUnderThePlainNameIsNeitherOpenedNorMoved) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    ASSERT_EQ(as_nobody([&] { return ::mkfifo(path().c_str(), 0666); }), 0);
    expect_left_alone();
}

TEST_F(StorageTest, NothingThereIsNoError) {
    EXPECT_EQ(Storage::reattach(config(), make_backing(config(), nullptr, &runtime_)), nullptr);
}

TEST_F(StorageTest, ADaemonWithAnotherRuntimeDirectoryServesNoPoolThatIsServed) {
    const auto storage = create();
    RuntimeDirectory other(directory_.path() + "/other.d");
    try {
        start_storage(config(), kNow, nullptr, &other);
        FAIL() << "a second owner";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::device_or_resource_busy);
        EXPECT_THAT(e.what(), HasSubstr("served by another mempoold (pid "));
    }
    EXPECT_EQ(objects_of(name_).size(), 1U);
}

TEST_F(StorageTest, TwoUsersWithDaemonsOfTheirOwnDoNotMeet) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    const auto storage = create();
    const std::string theirs = directory_.path() + "/theirs";
    ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
    ASSERT_EQ(::mkdir(theirs.c_str(), 0755), 0);
    ASSERT_EQ(::chown(theirs.c_str(), 65534, 65534), 0);
    EXPECT_EQ(as_nobody([&] {
                  RuntimeDirectory runtime(theirs + "/s.d");
                  const auto own = start_storage(config(), kNow, nullptr, &runtime);
                  const bool other = own->key() != storage->key() && own->slots() == 50;
                  own->remove_objects();
                  runtime.remove();
                  return other ? 0 : 1;
              }),
              0);
    EXPECT_EQ(objects_of(name_).size(), 1U);
    EXPECT_TRUE(std::filesystem::is_empty(theirs));
}

TEST_F(StorageTest, ALockThatAClientTookKeepsNoDaemonFromItsPool) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    make_grown_pool();
    const UniqueFd passed{::open(path(0).c_str(), O_RDWR | O_CLOEXEC)};
    int pipe_ends[2] = {};
    ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
    UniqueFd hear{pipe_ends[0]};
    UniqueFd say{pipe_ends[1]};
    const pid_t client = ::fork();
    if (client == 0) {
        ::setresuid(65534, 65534, 65534);
        ::flock(passed.get(), LOCK_EX);
        ::_exit(::write(say.get(), "!", 1) == 1 && ::pause() == 0 ? 0 : 1);
    }
    char heard = 0;
    ASSERT_EQ(::read(hear.get(), &heard, 1), 1);
    EXPECT_EQ(start()->slots(), 127U);
    ::kill(client, SIGKILL);
    ::waitpid(client, nullptr, 0);
}

TEST_F(StorageTest, OneRuntimeDirectoryHasOneDaemon) {
    try {
        const RuntimeDirectory second(runtime_.path());
        FAIL() << "a second lock";
    } catch (const std::runtime_error& e) {
        EXPECT_THAT(e.what(), HasSubstr("another mempoold (pid " + std::to_string(::getpid())));
    }
}

TEST_F(StorageTest, ARuntimeDirectoryThatOthersMayWriteIsRefused) {
    const std::string open = directory_.path() + "/open.d";
    ASSERT_EQ(::mkdir(open.c_str(), 0700), 0);
    ASSERT_EQ(::chmod(open.c_str(), 0777), 0);
    EXPECT_THROW(RuntimeDirectory{open}, std::runtime_error);
    std::filesystem::create_directory_symlink(runtime_.path(), directory_.path() + "/link.d");
    EXPECT_THROW(RuntimeDirectory{directory_.path() + "/link.d"}, std::system_error);
}

TEST_F(StorageTest, ARuntimeDirectoryIsRemovedWithAllThatIsInIt) {
    const std::string path = directory_.path() + "/gone.d";
    {
        RuntimeDirectory runtime(path);
        runtime.update([](shm::PoolIndex& index) { index.pools["p"].objects[0] = {}; });
        runtime.remove();
        EXPECT_TRUE(std::filesystem::exists(path)) << "a pool is in it";
        runtime.update([](shm::PoolIndex& index) { index.pools.clear(); });
        runtime.remove();
    }
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(StorageTest, AFoundPoolKeepsWhatItHas) {
    make_grown_pool();
    const auto storage = start();
    EXPECT_EQ(storage->slots(), 127U);
    EXPECT_EQ(storage->segments().size(), 3U);
    EXPECT_EQ(objects_of(name_).size(), 3U);
}

TEST_F(StorageTest, OtherSizesInTheConfigurationLeaveAFoundPoolAsItIs) {
    make_grown_pool();
    const auto storage =
        start_storage(parse_pool(name_ + ":999x9", "test"), kNow, nullptr, &runtime_);
    EXPECT_EQ(storage->geometry().shape.slot_size, 100U);
    EXPECT_EQ(storage->slots(), 127U);
}

TEST_F(StorageTest, APoolIsServedOnce) {
    const auto storage = create();
    try {
        start();
        FAIL() << "a second owner";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::device_or_resource_busy);
        EXPECT_THAT(e.what(), HasSubstr("served by another mempoold"));
    }
}

TEST_F(StorageTest, GrowthAddsSlotsAndObjects) {
    const auto storage = create();
    add_segment(*storage, 70, kNow);
    EXPECT_EQ(storage->slots(), 120U);
    EXPECT_EQ(shm::count_depot(storage->view()), 120U);
    EXPECT_TRUE(shm::audit(storage->view()).findings.empty());
    struct stat status {};
    ASSERT_EQ(::stat(path(1).c_str(), &status), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(status.st_size),
              shm::segment_file_bytes(storage->geometry(), 1, 70));
}

TEST_F(StorageTest, GrowthBeyondTheIndicesIsRefused) {
    const auto storage = create(",max_slots=50");
    EXPECT_THROW(add_segment(*storage, 1U << 20U, kNow), std::system_error);
    EXPECT_EQ(storage->slots(), 50U);
    EXPECT_EQ(objects_of(name_).size(), 1U);
}

TEST_F(StorageTest, EraseZeroesExactlyOneSlot) {
    const auto storage = create();
    add_segment(*storage, 70, kNow);
    const shm::Geometry& g = storage->geometry();
    const shm::SegmentEntry entry = storage->segments()[1].entry;
    const std::string marks(2 * g.slot_stride, 'x');
    poke(shm::kPage + g.slot_stride, marks, 1);
    EXPECT_EQ(storage->erase(shm::SlotIndex{entry.first_index + 1}), 0);
    std::string found(2 * g.slot_stride, '?');
    ASSERT_EQ(read_at(storage->segments()[1].own.get(), found.data(), found.size(),
                      shm::kPage + g.slot_stride),
              0);
    EXPECT_EQ(found.substr(0, 100), std::string(100, '\0'));
    EXPECT_EQ(found.substr(g.slot_stride), std::string(g.slot_stride, 'x'));
    EXPECT_NE(storage->erase(shm::SlotIndex{50}), 0) << "an index in the gap between segments";
}

TEST_F(StorageTest, WhatClientsGetIsNotWhatTheDaemonWritesThrough) {
    const auto storage = create();
    add_segment(*storage, 70, kNow);
    for (const StoredSegment& segment : storage->segments()) {
        ASSERT_EQ(::fcntl(segment.writable.get(), F_SETFL, O_APPEND), 0);
        EXPECT_EQ(::fcntl(segment.own.get(), F_GETFL) & O_APPEND, 0);
    }
    const shm::Geometry& g = storage->geometry();
    poke(g.slots_offset, "secret");
    EXPECT_EQ(storage->erase(shm::SlotIndex{0}), 0);
    std::string found(6, '?');
    ASSERT_EQ(read_at(storage->segments()[0].own.get(), found.data(), found.size(), g.slots_offset),
              0);
    EXPECT_EQ(found, std::string(6, '\0'));
}

TEST_F(StorageTest, RemoveTakesAllObjects) {
    make_grown_pool();
    start()->remove_objects();
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

TEST_F(StorageTest, AFormerPoolThatNobodyUsesIsSetAsideWhole) {
    make_grown_pool();
    mempool_test::make_former(name_);
    expect_set_aside();
    EXPECT_EQ(objects_of(name_).size(), 4U);
    EXPECT_THAT(runtime_.index().aside.front().reason,
                HasSubstr("layout version is " + std::to_string(shm::kFormerLayoutVersion) +
                          ", this build knows " + std::to_string(shm::kLayoutVersion)));
}

TEST_F(StorageTest, AFormerPoolWithPlainNamesIsFoundAndSetAsideWhole) {
    make_grown_pool();
    const std::uint64_t key = key_of(path());
    make_plain();
    expect_set_aside();
    EXPECT_EQ(objects_of(name_).size(), 4U);
    EXPECT_EQ(key_of("/dev/shm/" + runtime_.index().aside.front().object), key);
    EXPECT_EQ(runtime_.index().pools.at(name_).objects.size(), 1U);
}

TEST_F(StorageTest, AFormerPoolInUseIsLeftAsItIs) {
    make_grown_pool();
    make_plain();
    const std::vector<std::string> before = objects_of(name_);
    const std::uint64_t key = key_of(path());
    std::vector<FormerClient> users{{.pid = 11, .seen = true}, {.pid = 12}};
    const auto ask = [&](const UniqueFd&) { return [&] { return std::optional(users); }; };
    for (int k = 0; k < 2; ++k) {  // at the start, and at a reload
        try {
            start_storage(config(), kNow, nullptr, &runtime_, ask);
            FAIL() << "it is in use";
        } catch (const InUse& e) {
            EXPECT_THAT(e.what(), HasSubstr("2 of its clients live (pid 11, 12 unseen)"));
            EXPECT_THAT(e.what(), HasSubstr("and each " + path(".*") +
                                            " except those with .aside-, then reload"));
        }
        EXPECT_EQ(objects_of(name_), before);
        EXPECT_EQ(key_of(path()), key);
    }
    users.clear();
    EXPECT_NE(start_storage(config(), kNow, nullptr, &runtime_, ask)->key(), key);
    EXPECT_EQ(runtime_.index().aside.size(), 3U);
}

// Whatever a client wrote into its header: the index says of which layout the daemon made it.
TEST_F(StorageTest, APoolOfThisLayoutIsNotKeptFromServiceByItsHeader) {
    const auto ask = [](const UniqueFd&) -> PoolStart::Look {
        ADD_FAILURE() << "it is none of the former layout";
        return {};
    };
    std::uint64_t key = start()->key();
    for (const bool noted_when_made : {true, false}) {
        if (!noted_when_made) {  // but when it was taken over
            runtime_.update([](shm::PoolIndex& index) { index.layouts.clear(); });
            EXPECT_EQ(start()->key(), key);
        }
        poke_value(offsetof(shm::Header, layout_version), shm::kFormerLayoutVersion);
        const std::uint64_t next = start_storage(config(), kNow, nullptr, &runtime_, ask)->key();
        EXPECT_NE(next, key);
        key = next;
    }
}

TEST_F(StorageTest, ANoteOfAnotherFileSaysNothingOfAPool) {
    start();
    poke_value(offsetof(shm::Header, layout_version), shm::kFormerLayoutVersion);
    runtime_.update([&](shm::PoolIndex& index) { ++index.layouts.at(name_).inode; });
    EXPECT_THROW(start_storage(config(), kNow, nullptr, &runtime_, users(1)), InUse);
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
    ASSERT_EQ(::unlink(path(2).c_str()), 0);
    expect_set_aside();
}

TEST_F(StorageTest, ASegmentOfAnotherPoolSetsThePoolAside) {
    make_grown_pool();
    poke(offsetof(shm::SegmentHeader, uuid), std::string(16, 'u'), 1);
    expect_set_aside();
}

TEST_F(StorageTest, AnotherPoolUnderThisNameIsSetAside) {
    make_grown_pool();
    poke(offsetof(shm::Header, name), "somebody-else");
    expect_set_aside();
}

TEST_F(StorageTest, WhatStandsUnderThePlainNameIsLeftAlone) {
    std::ofstream(path()) << "not a pool at all";
    expect_left_alone();
}

TEST_F(StorageTest, ADirectoryOrFifoUnderThePlainNameIsLeftAlone) {
    ASSERT_TRUE(std::filesystem::create_directory(path()));
    expect_left_alone();
    mempool_test::remove_pool(name_);
    runtime_.update([](shm::PoolIndex& index) { index = {}; });
    ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
    expect_left_alone();
}

TEST_F(StorageTest, ASymbolicLinkIsNotFollowed) {
    const std::string target = path("-target");
    std::ofstream(target) << "precious";
    std::filesystem::create_symlink(target, path());
    expect_left_alone();
    EXPECT_EQ(std::filesystem::file_size(target), 8U);
    std::filesystem::remove(target);
}

TEST_F(StorageTest, AnObjectThatAnotherUserNowHasIsNotServed) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    make_grown_pool();
    const std::string object = path(0);
    const std::uint64_t key = key_of(object);
    ASSERT_EQ(::chown(object.c_str(), 65534, 65534), 0);
    EXPECT_NE(start()->key(), key);
    EXPECT_TRUE(std::filesystem::exists(object)) << "it is left alone";
}

TEST_F(StorageTest, AnotherFileUnderARecordedNameIsNotServed) {
    make_grown_pool();
    const std::string object = path(0);
    std::filesystem::copy_file(object, object + "-copy");
    std::filesystem::remove(path());
    std::filesystem::rename(object + "-copy", object);
    const auto storage = start();
    EXPECT_NE(storage->key(), key_of(object));
    EXPECT_EQ(storage->slots(), 50U);
}

TEST_F(StorageTest, TwoSetAsideInOneSecondGetTwoNames) {
    for (int k = 0; k < 3; ++k) {
        make_grown_pool();
        poke(0, std::string(shm::kPage, '\0'));
        start()->remove_objects();
    }
    EXPECT_EQ(objects_of(name_).size(), 9U);
}

TEST_F(StorageTest, ACreationThatWasCutOffIsMadeAnew) {
    for (const off_t bytes : {off_t{0}, off_t{1} << 20U}) {
        const auto backing = make_backing(config(), nullptr, &runtime_);
        ASSERT_EQ(::ftruncate(backing->create(0).get(), bytes), 0);
        EXPECT_EQ(objects_of(name_).size(), 1U);
        backing->give_up();
        const auto storage = start();
        EXPECT_EQ(storage->slots(), 50U);
        EXPECT_EQ(objects_of(name_).size(), 1U);
        storage->remove_objects();
    }
}

TEST_F(StorageTest, APoolThatWasFinishedIsNeverTakenForUnfinished) {
    make_grown_pool();
    poke_value(offsetof(shm::Header, state), shm::PoolState::kCreating);
    poke_value(shm::kPage + offsetof(shm::Live, daemon_starts), 0U);
    expect_set_aside();
}

TEST_F(StorageTest, LeftoversOfAGrowthAreRemovedAndStrangersFilesLeftAlone) {
    make_grown_pool();
    std::ofstream(path(".3")) << std::string(8192, 'z');
    const auto backing = make_backing(config(), nullptr, &runtime_);
    ASSERT_TRUE(backing->find());
    backing->create(3);
    EXPECT_EQ(objects_of(name_).size(), 5U);
    backing->give_up();
    const auto storage = start();
    EXPECT_EQ(storage->slots(), 127U);
    EXPECT_EQ(objects_of(name_).size(), 4U);
    EXPECT_TRUE(std::filesystem::exists(path(".3")));
    EXPECT_EQ(runtime_.index().pools.at(name_).objects.size(), 3U);
}

TEST_F(StorageTest, ALostIndexIsMadeAnewFromTheDaemonsOwnObjects) {
    std::uint64_t key = 0;
    {
        const auto storage = create();
        add_segment(*storage, 70, kNow);
        key = storage->key();
    }
    runtime_.update([](shm::PoolIndex& index) { index = {}; });
    const auto storage = start();
    EXPECT_EQ(storage->key(), key);
    EXPECT_EQ(storage->slots(), 120U);
    EXPECT_EQ(runtime_.index().pools.at(name_).objects.size(), 2U);
}

TEST_F(StorageTest, TheIndexIsReadAgain) {
    make_grown_pool();
    std::uint32_t bad_lines = 0;
    std::ifstream file(runtime_.path() + "/pools");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const shm::PoolIndex index = shm::parse_index(text, bad_lines);
    EXPECT_EQ(bad_lines, 0U);
    ASSERT_TRUE(index.pools.contains(name_));
    EXPECT_EQ(index.pools.at(name_).objects, runtime_.index().pools.at(name_).objects);
    EXPECT_EQ(index.pools.at(name_).uuid, runtime_.index().pools.at(name_).uuid);
    struct stat status {};
    ASSERT_EQ(::stat((runtime_.path() + "/pools").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0644U);
    ASSERT_EQ(::stat((runtime_.path() + "/private").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST_F(StorageTest, ANameThatIsRemovedComesBack) {
    const auto storage = create();
    add_segment(*storage, 70, kNow);
    const std::string object = path(0);
    std::filesystem::remove(path());
    storage->check_names();
    EXPECT_TRUE(std::filesystem::exists(path()));
    std::filesystem::remove(object);
    storage->check_names();
    EXPECT_TRUE(std::filesystem::exists(object));
    EXPECT_EQ(storage->missing_names(), "");
    const std::string second = path(1);
    std::filesystem::remove(second);
    storage->check_names();
    EXPECT_EQ(storage->missing_names(), second + " was removed");
}

TEST_F(StorageTest, AFirstNameThatWasRemovedWhileNobodyServedComesBack) {
    make_grown_pool();
    const std::string object = path(0);
    std::filesystem::remove(object);
    EXPECT_EQ(start()->slots(), 127U);
    EXPECT_TRUE(std::filesystem::exists(object));
}

TEST_F(StorageTest, APoolWhoseNamesAreAllGoneIsMadeAnew) {
    make_grown_pool();
    mempool_test::remove_pool(name_);
    EXPECT_EQ(start()->slots(), 50U);
    EXPECT_EQ(runtime_.index().pools.at(name_).objects.size(), 1U);
}

// Clients can write there while no daemon looks.
TEST_F(StorageTest, ASmallerNumberOfSegmentsDeletesNone) {
    make_grown_pool();
    poke_value(shm::kPage + offsetof(shm::Live, segment_count), 1U);
    const auto storage = start();
    EXPECT_EQ(storage->slots(), 127U);
    EXPECT_EQ(objects_of(name_).size(), 3U);
    EXPECT_EQ(storage->view().segment_count(), 3U);
    EXPECT_EQ(storage->view().segment(2).slot_count, 7U);
}

TEST_F(StorageTest, ASegmentBeyondTheNumberThatIsNotWholeSetsThePoolAside) {
    make_grown_pool();
    poke_value(shm::kPage + offsetof(shm::Live, segment_count), 2U);
    poke(offsetof(shm::SegmentHeader, uuid), std::string(16, 'u'), 2);
    expect_set_aside();
    EXPECT_EQ(objects_of(name_).size(), 4U);
}

// What clients write can't make the daemon take, rename or remove what is none of the pool's.
TEST_F(StorageTest, ATableThatNamesAnotherPoolsObjectGetsNothing) {
    const std::string other = mempool_test::unique_pool("storage");
    const auto theirs =
        start_storage(parse_pool(other + ":100x50", "test"), kNow, nullptr, &runtime_);
    make_grown_pool();
    shm::SegmentEntry entry =
        create_storage(parse_pool(other + "x:100x50", "test"), kNow)->segments().front().entry;
    entry.object = theirs->segments().front().entry.object;
    poke_value(2 * shm::kPage + 3 * sizeof(entry), entry);
    poke_value(shm::kPage + offsetof(shm::Live, segment_count), 4U);
    const std::string object = "/dev/shm/" + mempool_test::object_of(other, 0);
    expect_set_aside();
    EXPECT_TRUE(std::filesystem::exists(object));
    EXPECT_EQ(runtime_.index().pools.at(name_).objects.size(), 1U);
    mempool_test::remove_pool(other + "x");
    mempool_test::remove_pool(other);
}

TEST_F(StorageTest, ARuntimeDirectoryThatWasRemovedComesBack) {
    make_grown_pool();
    auto storage = start();
    const auto key = storage->key();
    std::filesystem::remove_all(runtime_.path());
    runtime_.mend();
    storage->check_names();
    EXPECT_EQ(storage->view().header().runtime_inode, runtime_.identity().second);
    EXPECT_FALSE(storage->restore().header);
    storage.reset();
    std::filesystem::remove(runtime_.path() + "/pools");
    runtime_.mend();
    std::uint32_t bad_lines = 0;
    std::ifstream file(runtime_.path() + "/pools");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(shm::parse_index(text, bad_lines).pools.at(name_).objects.size(), 3U);
    EXPECT_EQ(start()->key(), key);
}

TEST_F(StorageTest, ARuntimeDirectoryThatAnotherDaemonTookMeanwhileIsNotTakenBack) {
    const std::string place = runtime_.path();
    std::filesystem::remove_all(place);
    const RuntimeDirectory other(place);
    EXPECT_THROW(runtime_.mend(), std::runtime_error);
    EXPECT_FALSE(std::filesystem::exists(place + "/pools"));
}

// What a reload adds is made in steps, and may be cut off between any two.
TEST_F(StorageTest, APoolThatIsGivenUpWhileItIsMadeLeavesNothing) {
    const PoolConfig large = parse_pool(name_ + ":1MiBx40", "test");
    std::optional<PoolStart> start(std::in_place, large, kNow, nullptr, &runtime_);
    EXPECT_TRUE(start->step());
    EXPECT_TRUE(objects_of(name_).empty());
    EXPECT_TRUE(start->proceed());
    EXPECT_TRUE(start->is_new());
    EXPECT_FALSE(start->step()) << "40 MiB at one go";
    EXPECT_EQ(objects_of(name_).size(), 1U);
    EXPECT_FALSE(runtime_.index().pools.at(name_).finished());
    start.reset();
    EXPECT_TRUE(objects_of(name_).empty());
    EXPECT_FALSE(runtime_.index().pools.contains(name_));
}

TEST_F(StorageTest, MoreThanThereIsMemoryIsRefusedAtOnce) {
    try {
        create_storage(parse_pool(name_ + ":1GiBx50000", "test"), kNow);
        FAIL() << "50 TiB of memory";
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code(), std::errc::no_space_on_device);
        EXPECT_THAT(e.what(), HasSubstr("in /dev/shm"));
    }
    EXPECT_TRUE(objects_of(name_).empty());
}

}  // namespace
}  // namespace mempoold
