// SIGHUP: what applies, what stays, and that a bad file changes nothing.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "fake_manager.hpp"
#include "held_threads.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using testing::HasSubstr;

class ReloadTest : public testing::Test {
protected:
    void configure(const std::string& text) const { std::ofstream(file()) << text; }
    std::string file() const { return daemon_.directory() + "/mempoold.conf"; }
    void start(const std::string& text) {
        configure(text);
        daemon_.start({"--config", file()});
    }

    const std::string pool_ = mempool_test::unique_pool("reload");
    const std::string other_ = mempool_test::unique_pool("reload");
    mempool_test::DaemonProcess daemon_;
};

TEST_F(ReloadTest, ANewPoolAppears) {
    start("pool = " + pool_ + ":64x64\n");
    configure("pool = " + pool_ + ":64x64\npool = " + other_ + ":64x64\n");
    daemon_.reload();
    daemon_.wait_for_log("configuration reloaded");
    const PoolClient client(daemon_.socket_path(), other_);
    const PoolClient old(daemon_.socket_path(), pool_);
}

TEST_F(ReloadTest, WhileAStartTakesItsTimeTheManagerIsAskedToWait) {
    FakeManager manager;
    start("pool = " + pool_ + ":64x250000\n");
    EXPECT_GT(manager.extensions(), 0);
}

TEST_F(ReloadTest, WhileANewPoolTakesItsTimeOthersAreServedAndTheManagerIsAskedToWait) {
    FakeManager manager;
    start("pool = " + pool_ + ":64x64\n");
    const int before = manager.extensions();
    configure("pool = " + pool_ + ":64x64\npool = " + other_ + ":64x64\n");
    {
        const HeldThreads held(daemon_.pid());
        if (!held.any()) {
            GTEST_SKIP() << "needs ptrace";
        }
        daemon_.reload();
        EXPECT_TRUE(eventually([&] { return manager.extensions() > before; }));
        const PoolClient client(daemon_.socket_path(), pool_);
    }
    daemon_.wait_for_log("configuration reloaded");
    const PoolClient client(daemon_.socket_path(), other_);
}

TEST_F(ReloadTest, LiveKeysApply) {
    start("pool = " + pool_ + ":64x64,max_slots=200,low_watermark=0\n");
    PoolClient client(daemon_.socket_path(), pool_);
    EXPECT_EQ(client.view().live().options.load(), 0U);
    client.get(60);
    configure("pool = " + pool_ +
              ":64x64,max_slots=200,low_watermark=50%,grow_slots=10,erase_on_put=yes\n");
    daemon_.reload();
    daemon_.wait_for_log("configuration reloaded");
    EXPECT_EQ(client.view().live().options.load(), shm::kEraseOnPut);
    EXPECT_TRUE(eventually([&] { return client.view().segment_count() > 1; }));
    EXPECT_EQ(client.view().segment(1).slot_count, 10U);
}

TEST_F(ReloadTest, SizesOfALivePoolStay) {
    start("pool = " + pool_ + ":64x64\n");
    configure("pool = " + pool_ + ":128x99\n");
    daemon_.reload();
    daemon_.wait_for_log("configuration reloaded");
    EXPECT_THAT(daemon_.log(), HasSubstr("cannot change while it exists"));
    const PoolClient client(daemon_.socket_path(), pool_);
    EXPECT_EQ(client.view().geometry().shape.slot_size, 64U);
}

TEST_F(ReloadTest, ABadFileChangesNothing) {
    start("pool = " + pool_ + ":64x64\n");
    configure("pool = " + pool_ + ":64x64,erase_on_put=yes\npool = nonsense\n");
    daemon_.reload();
    daemon_.wait_for_log("configuration not reloaded");
    EXPECT_THAT(daemon_.log(), HasSubstr(file() + ":2: pool:"));
    const PoolClient client(daemon_.socket_path(), pool_);
    EXPECT_EQ(client.view().live().options.load(), 0U);
}

TEST_F(ReloadTest, ABadPoolFileAtAReloadChangesNothing) {
    start("pool = " + pool_ + ":64x64\n");
    const std::string pools = daemon_.directory() + "/pools.d/";
    std::filesystem::create_directory(pools);
    std::ofstream(pools + other_ + ".conf") << "slot_size = 64\nslots = 64\n";
    std::ofstream(pools + "bad.conf") << "nonsense\n";
    daemon_.reload();
    daemon_.wait_for_log("configuration not reloaded");
    EXPECT_THAT(daemon_.log(), HasSubstr("bad.conf:1:"));
    std::filesystem::remove(pools + "bad.conf");
    daemon_.reload();
    daemon_.wait_for_log("configuration reloaded");
    const PoolClient client(daemon_.socket_path(), other_);
}

TEST_F(ReloadTest, ABadPoolFileAtStartCostsItsPoolAlone) {
    const std::string pools = daemon_.directory() + "/pools.d/";
    std::filesystem::create_directory(pools);
    std::ofstream(pools + "bad.conf") << "nonsense\n";
    start("pool = " + pool_ + ":64x64\n");
    EXPECT_THAT(daemon_.log(), HasSubstr("a pool is left out: " + pools + "bad.conf:1:"));
    const PoolClient client(daemon_.socket_path(), pool_);
    const auto checked = mempool_test::run_mempoold({"--config", file(), "--check-config"});
    EXPECT_EQ(checked.status, 2);
    EXPECT_THAT(checked.err, HasSubstr("bad.conf:1:"));
}

TEST_F(ReloadTest, TheManagerIsToldWhichPoolIsNotServedAndWhy) {
    FakeManager manager;
    const std::string pools = daemon_.directory() + "/pools.d/";
    std::filesystem::create_directory(pools);
    std::ofstream(pools + "bad.conf") << "nonsense\n";
    start("pool = " + pool_ + ":64x64\npool = " + other_ + ":1Gx60000\n");
    const auto says = [&](const std::string& text) {
        return eventually([&] { return manager.status().find(text) != std::string::npos; });
    };
    EXPECT_TRUE(says("NOT SERVED: '" + other_ + "': pool '" + other_ + "' needs"));
    EXPECT_TRUE(says("LEFT OUT: " + pools + "bad.conf:1:"));
    EXPECT_TRUE(says("serving " + pool_));
    daemon_.reload();
    EXPECT_TRUE(says("reload failed: " + pools + "bad.conf:1:"));
    std::filesystem::remove(pools + "bad.conf");
    configure("pool = " + pool_ + ":64x64\npool = " + other_ + ":64x64\n");
    daemon_.reload();
    EXPECT_TRUE(eventually([&] { return manager.status().starts_with("serving "); }));
}

// systemd ignores a longer message as a whole, and then waits for READY=1 for ever.
TEST_F(ReloadTest, TheStatusOfManyPoolsIsShort) {
    FakeManager manager;
    std::string text;
    for (int k = 0; k < 100; ++k) {
        text += "pool = " + mempool_test::unique_pool("reload-with-a-name-that-is-rather-long") +
                ":64x16\n";
    }
    start(text);
    EXPECT_TRUE(eventually([&] { return manager.status().starts_with("serving "); }));
    EXPECT_LT(manager.status().size(), 2100U);
    EXPECT_THAT(manager.status(), testing::EndsWith("..."));
}

TEST_F(ReloadTest, APoolTakenOutIsServedOn) {
    start("pool = " + pool_ + ":64x64\npool = " + other_ + ":64x64\n");
    configure("pool = " + pool_ + ":64x64\n");
    daemon_.reload();
    daemon_.wait_for_log("is not configured any more");
    const PoolClient client(daemon_.socket_path(), other_);
}

}  // namespace
}  // namespace mempoold
