// Start, stop, the socket's place, and other daemons.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace fs = std::filesystem;
using mempool_test::DaemonProcess;
using mempool_test::objects_of;
using mempool_test::run_mempoold;
using testing::HasSubstr;

class LifecycleTest : public testing::Test {
protected:
    const std::string pool_ = mempool_test::unique_pool("lifecycle");
    const std::string spec_ = pool_ + ":1KiBx64";
    DaemonProcess daemon_;
};

TEST_F(LifecycleTest, TheReadyLineNamesSocketAndPools) {
    daemon_.start({"--pool", spec_});
    EXPECT_THAT(daemon_.log(), HasSubstr("ready: socket " + daemon_.socket_path() + ", pools " +
                                         pool_ + " (64 slots x 1KiB)"));
    struct stat status {};
    ASSERT_EQ(::stat(daemon_.socket_path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0666U);
}

TEST_F(LifecycleTest, TheReadyLineComesAtEveryLogLevel) {
    daemon_.start({"--pool", spec_, "--log-level=error"});
}

TEST_F(LifecycleTest, ACleanStopLeavesThePool) {
    daemon_.start({"--pool", spec_});
    const PoolClient client(daemon_.socket_path(), pool_);
    EXPECT_EQ(client.view().live().daemon_pid.load(), static_cast<std::uint32_t>(daemon_.pid()));
    EXPECT_EQ(daemon_.terminate(), 0);
    EXPECT_EQ(client.view().live().daemon_pid.load(), 0U);
    EXPECT_FALSE(fs::exists(daemon_.socket_path()));
    EXPECT_EQ(objects_of(pool_).size(), 1U);
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(), HasSubstr("took over 64 slots"));
    EXPECT_EQ(client.view().client(mempool::shm::ClientId{1}).state.load(),
              mempool::shm::ClientState::kActive);
}

TEST_F(LifecycleTest, RemoveOnExitRemovesAllObjects) {
    daemon_.start({"--pool", spec_ + ",max_slots=1000", "--remove-on-exit"});
    RawClient admin(daemon_.socket_path());
    ASSERT_TRUE(admin.ask(make_request(RequestKind::kGrow, pool_, 10)));
    EXPECT_EQ(objects_of(pool_).size(), 2U);
    EXPECT_EQ(daemon_.terminate(), 0);
    EXPECT_TRUE(objects_of(pool_).empty());
    for (const auto& left : fs::directory_iterator(daemon_.directory())) {
        EXPECT_EQ(left.path().filename(), "stderr.log");
    }
}

TEST_F(LifecycleTest, ASocketLeftByAKilledDaemonIsReplaced) {
    daemon_.start({"--pool", spec_});
    daemon_.kill9();
    EXPECT_TRUE(fs::exists(daemon_.socket_path()));
    daemon_.restart();
}

TEST_F(LifecycleTest, APoolOfAnotherLayoutIsSetAsideAndBothVersionsAreNamed) {
    daemon_.start({"--pool", spec_});
    EXPECT_EQ(daemon_.terminate(), 0);
    const std::uint32_t other = mempool::shm::kLayoutVersion + 1;
    std::fstream object("/dev/shm/" + mempool_test::object_of(pool_, 0),
                        std::ios::in | std::ios::out | std::ios::binary);
    object.seekp(offsetof(mempool::shm::Header, layout_version));
    object.write(reinterpret_cast<const char*>(&other), sizeof(other));
    object.close();
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(),
                HasSubstr("its layout version is " + std::to_string(other) + ", this build knows " +
                          std::to_string(mempool::shm::kLayoutVersion)));
    EXPECT_THAT(daemon_.last_log(), HasSubstr("It was set aside as /dev/shm/mempool." + pool_));
    const PoolClient client(daemon_.socket_path(), pool_);
}

TEST_F(LifecycleTest, ASecondDaemonInOneDirectoryRefuses) {
    daemon_.start({"--pool", spec_});
    const auto second = run_mempoold({"--socket", daemon_.socket_path(), "--pool", "other:1x1"});
    EXPECT_EQ(second.status, 1);
    EXPECT_THAT(second.err, HasSubstr("another mempoold (pid " + std::to_string(daemon_.pid()) +
                                      ") serves " + daemon_.directory()));
    EXPECT_TRUE(objects_of("other").empty());
    RawClient(daemon_.socket_path());
}

TEST_F(LifecycleTest, ASecondDaemonForOnePoolRefuses) {
    daemon_.start({"--pool", spec_});
    const mempool_test::TemporaryDirectory elsewhere;
    const auto second = run_mempoold({"--socket", elsewhere.path() + "/s", "--pool", spec_});
    EXPECT_EQ(second.status, 1);
    EXPECT_THAT(second.err, HasSubstr("is served by another mempoold"));
    EXPECT_FALSE(fs::exists(elsewhere.path() + "/s"));
}

// A cleaner of /tmp, or somebody's rm.
TEST_F(LifecycleTest, ASocketAndARuntimeDirectoryThatAreRemovedComeBack) {
    daemon_.start({"--pool", spec_});
    const PoolClient client(daemon_.socket_path(), pool_);
    fs::remove(daemon_.socket_path());
    daemon_.wait_for_log("the socket " + daemon_.socket_path() + " was removed by somebody");
    const PoolClient second(daemon_.socket_path(), pool_);
    fs::remove_all(daemon_.socket_path() + ".d");
    fs::remove(daemon_.socket_path());
    daemon_.wait_for_log("the runtime directory " + daemon_.socket_path() +
                         ".d was removed by somebody");
    EXPECT_TRUE(eventually([&] { return fs::exists(daemon_.socket_path()); }));
    daemon_.kill9();
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(), HasSubstr("took over 64 slots"));
}

TEST_F(LifecycleTest, ASocketThatSomethingElseTookMeanwhileIsLeftToIt) {
    daemon_.start({"--pool", spec_});
    fs::remove(daemon_.socket_path());
    const std::ofstream file(daemon_.socket_path());
    daemon_.wait_for_log(daemon_.socket_path() + " exists and is not a socket");
    EXPECT_TRUE(fs::is_regular_file(daemon_.socket_path()));
    fs::remove(daemon_.socket_path());
    EXPECT_TRUE(eventually([&] { return fs::is_socket(daemon_.socket_path()); }));
}

TEST_F(LifecycleTest, WhatIsNoSocketIsNotRemoved) {
    std::ofstream(daemon_.socket_path()) << "precious";
    daemon_.launch({"--pool", spec_});
    EXPECT_EQ(daemon_.wait(), 1);
    EXPECT_THAT(daemon_.log(), HasSubstr("exists and is not a socket"));
    EXPECT_EQ(fs::file_size(daemon_.socket_path()), 8U);
}

TEST_F(LifecycleTest, ASocketThatSomethingElseServesIsNotTaken) {
    const mempool::shm::UniqueFd other{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    daemon_.socket_path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(other.get(), 1), 0);
    daemon_.launch({"--pool", spec_});
    EXPECT_EQ(daemon_.wait(), 1);
    EXPECT_THAT(daemon_.log(), HasSubstr("something else answers"));
}

TEST_F(LifecycleTest, APathTooLongIsExplained) {
    const auto result =
        run_mempoold({"--socket", "/tmp/" + std::string(200, 'x'), "--pool", spec_});
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, HasSubstr("may have at most 107"));
}

TEST_F(LifecycleTest, ADirectoryThatIsNotThereIsExplained) {
    const auto result = run_mempoold({"--socket", "/tmp/no/such/place/s", "--pool", spec_});
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, HasSubstr("make the directory"));
}

TEST_F(LifecycleTest, OnePoolThatCannotBeServedDoesNotStopTheOthers) {
    const std::string huge = mempool_test::unique_pool("huge");
    daemon_.start({"--pool", huge + ":1GiBx50000", "--pool", spec_});
    EXPECT_THAT(daemon_.log(), HasSubstr("pool '" + huge + "' is not served"));
    const PoolClient client(daemon_.socket_path(), pool_);
}

TEST_F(LifecycleTest, CheckConfigShowsWhatWouldBeServed) {
    const auto good = run_mempoold({"--check-config", "--pool", spec_});
    EXPECT_EQ(good.status, 0);
    EXPECT_THAT(good.out, HasSubstr("pool = " + spec_));
    const auto bad = run_mempoold({"--check-config", "--pool", pool_ + ":0x1"});
    EXPECT_EQ(bad.status, 2);
    EXPECT_THAT(bad.err, HasSubstr("slot_size"));
    EXPECT_TRUE(objects_of(pool_).empty());
}

TEST_F(LifecycleTest, HelpAndVersionSucceed) {
    EXPECT_THAT(run_mempoold({"--version"}).out, HasSubstr(MEMPOOLD_VERSION));
    const auto help = run_mempoold({"--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_THAT(help.out, HasSubstr("--pool"));
    EXPECT_EQ(run_mempoold({"--no-such-flag"}).status, 2);
}

}  // namespace
}  // namespace mempoold
