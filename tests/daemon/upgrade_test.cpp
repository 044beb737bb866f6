// A daemon that finds pools of the release before, with clients and without.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/supervision/process.hpp"
#include "fake_manager.hpp"
#include "held_threads.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace fs = std::filesystem;
namespace shm = mempool::shm;
using mempool_test::objects_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class UpgradeTest : public testing::Test {
protected:
    struct Snapshot {
        std::vector<std::string> names;
        ino_t inode = 0;
        std::string bytes;
        friend bool operator==(const Snapshot&, const Snapshot&) = default;
    };
    Snapshot look() const {
        const std::string path = "/dev/shm/mempool." + pool_;
        struct stat status {};
        EXPECT_EQ(::stat(path.c_str(), &status), 0);
        std::ifstream file(path, std::ios::binary);
        return {objects_of(pool_), status.st_ino, {std::istreambuf_iterator<char>(file), {}}};
    }
    // A client in a process of its own, which holds 10 slots.
    std::unique_ptr<ChildProcess> start_holder() {
        return std::make_unique<ChildProcess>([this] {
            auto* client = new PoolClient(daemon_.socket_path(), pool_);  // leaked: attached
            if (client->get(10) != 10) {
                throw std::runtime_error("exhausted");
            }
        });
    }
    void stop_daemon_and_make_former() {
        ASSERT_EQ(daemon_.terminate(), 0);
        make_former();
    }
    void make_former() const { mempool_test::make_former(pool_, daemon_.socket_path() + ".d"); }
    void reload() {
        ++reloads_;
        daemon_.reload();
        EXPECT_TRUE(eventually([&] {
            std::size_t count = 0;
            const std::string log = daemon_.last_log();
            const std::string text = "configuration reloaded";
            for (auto at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) {
                ++count;
            }
            return count == reloads_;
        }));
    }
    std::string versions() const {
        return "is of layout version " + std::to_string(shm::kFormerLayoutVersion) +
               ", a former release's, and this build makes version " +
               std::to_string(shm::kLayoutVersion);
    }
    void expect_made_anew() {
        EXPECT_THAT(daemon_.last_log(),
                    HasSubstr("its layout version is " + std::to_string(shm::kFormerLayoutVersion) +
                              ", this build knows " + std::to_string(shm::kLayoutVersion)));
        EXPECT_THAT(daemon_.last_log(), HasSubstr("a new, empty pool takes its place"));
        EXPECT_THAT(objects_of(pool_),
                    testing::Contains(testing::StartsWith("mempool." + pool_ + ".aside-")));
        const PoolClient client(daemon_.socket_path(), pool_);
        EXPECT_EQ(client.census().held, 0U);
        EXPECT_EQ(client.view().header().layout_version, shm::kLayoutVersion);
    }

    const std::string pool_ = mempool_test::unique_pool("upgrade");
    const std::string other_ = mempool_test::unique_pool("upgrade");
    const std::string spec_ = pool_ + ":1KiBx64";
    mempool_test::DaemonProcess daemon_;
    std::size_t reloads_ = 0;
};

TEST_F(UpgradeTest, APoolInUseIsLeftToItsClientsUntilTheyEnd) {
    FakeManager manager;
    daemon_.start({"--pool", spec_, "--pool", other_ + ":64x64"});
    const auto holder = start_holder();
    stop_daemon_and_make_former();
    const Snapshot before = look();
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(), HasSubstr("pool '" + pool_ + "' is not served: "));
    EXPECT_THAT(daemon_.last_log(), HasSubstr(versions()));
    EXPECT_THAT(daemon_.last_log(),
                HasSubstr("1 of its clients live (pid " + std::to_string(holder->pid()) + ")"));
    EXPECT_THAT(daemon_.last_log(), HasSubstr("systemctl reload mempoold"));
    EXPECT_TRUE(eventually([&] {
        return manager.status().find("NOT SERVED: '" + pool_ + "': ") != std::string::npos &&
               manager.status().find("serving " + other_) != std::string::npos;
    }));
    const PoolClient client(daemon_.socket_path(), other_);
    EXPECT_THROW(PoolClient(daemon_.socket_path(), pool_), std::runtime_error);
    EXPECT_EQ(look(), before);
    reload();
    EXPECT_THROW(PoolClient(daemon_.socket_path(), pool_), std::runtime_error);
    EXPECT_EQ(look(), before);
    holder->kill9();
    reload();
    expect_made_anew();
    EXPECT_TRUE(eventually([&] { return manager.status().starts_with("serving "); }));
}

TEST_F(UpgradeTest, APoolThatNobodyUsesIsMadeAnewAtOnce) {
    daemon_.start({"--pool", spec_});
    const auto holder = start_holder();
    daemon_.kill9();
    holder->kill9();
    make_former();
    const Snapshot before = look();
    daemon_.restart();
    expect_made_anew();
    EXPECT_THAT(objects_of(pool_), Not(testing::Contains(before.names.front())));
    for (const std::string& name : objects_of(pool_)) {
        struct stat status {};
        ASSERT_EQ(::stat(("/dev/shm/" + name).c_str(), &status), 0);
        if (name.find(".aside-") != std::string::npos) {
            EXPECT_EQ(status.st_ino, before.inode);
        }
    }
}

TEST_F(UpgradeTest, WhoHasUnmappedThePoolKeepsNoDaemonFromIt) {
    daemon_.start({"--pool", spec_});
    std::optional<PoolClient> client(std::in_place, daemon_.socket_path(), pool_);
    daemon_.kill9();
    make_former();
    daemon_.restart();
    EXPECT_THROW(PoolClient(daemon_.socket_path(), pool_), std::runtime_error);
    client.reset();
    reload();
    expect_made_anew();
}

TEST_F(UpgradeTest, ADaemonWhoseOnlyPoolIsInUseStays) {
    daemon_.start({"--pool", spec_});
    const PoolClient client(daemon_.socket_path(), pool_);
    daemon_.kill9();
    client.view().client(shm::ClientId{1}).pid_namespace += 1;  // it cannot be seen
    make_former();
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(), HasSubstr("1 of its clients live"));
    EXPECT_THAT(daemon_.last_log(), HasSubstr("pools none"));
    reload();
    client.view().client(shm::ClientId{1}).state = shm::ClientState::kFree;
    reload();
    expect_made_anew();
}

TEST_F(UpgradeTest, WhoUsesAPoolIsFoundOutWhileOthersAreServed) {
    FakeManager manager;
    daemon_.start({"--pool", spec_, "--pool", other_ + ":64x64"});
    const auto holder = start_holder();
    stop_daemon_and_make_former();
    daemon_.restart();
    const int before = manager.extensions();
    {
        const HeldThreads held(daemon_.pid());
        if (!held.any()) {
            GTEST_SKIP() << "needs ptrace";
        }
        daemon_.reload();
        EXPECT_TRUE(eventually([&] { return manager.extensions() > before; }))
            << "it is not under way";
        const PoolClient client(daemon_.socket_path(), other_);
    }
    daemon_.wait_for_log("configuration reloaded");
    EXPECT_THROW(PoolClient(daemon_.socket_path(), pool_), std::runtime_error);
}

// The service manager keeps them: to stop the daemon would give up all.
TEST_F(UpgradeTest, APoolOfMemfdsThatIsTakenOutOfTheConfigurationIsGivenUpAlone) {
    FakeManager manager;
    const std::string file = daemon_.directory() + "/mempoold.conf";
    const std::string others = "pool = " + other_ + ":64x64,backing=memfd\n";
    const std::string all = others + "pool = " + spec_ + ",backing=memfd\n";
    std::ofstream(file) << all;
    daemon_.start({"--config", file});
    const auto holder = start_holder();
    const PoolClient before(daemon_.socket_path(), other_);
    const std::string kept = "mempool." + pool_;
    ASSERT_EQ(daemon_.terminate(), 0);
    for (const auto& [name, fd] : manager.passed()) {
        if (name == kept) {
            mempool_test::make_former(fd.get(), 0);
        }
    }
    make_former();
    daemon_.pass(manager.passed());
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(), HasSubstr("1 of its clients live"));
    EXPECT_THAT(manager.names(), testing::Contains(kept));

    std::ofstream(file) << others;
    reload();
    EXPECT_THAT(manager.names(), Not(testing::Contains(kept)));
    EXPECT_THAT(manager.names(), testing::Contains("mempool." + other_));
    std::ofstream(file) << all;
    reload();
    const PoolClient fresh(daemon_.socket_path(), pool_);
    EXPECT_EQ(fresh.census().held, 0U);
    const PoolClient after(daemon_.socket_path(), other_);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(after.view().header().uuid), 16),
              std::string(reinterpret_cast<const char*>(before.view().header().uuid), 16));
}

// The release that made it had plain names, no index, and no namespaces in its records.
TEST_F(UpgradeTest, APoolWithAPlainNameThatIsInUseIsFoundAndLeft) {
    daemon_.start({"--pool", spec_});
    const auto holder = start_holder();
    {
        const PoolClient witness(daemon_.socket_path(), pool_);
        stop_daemon_and_make_former();
        auto& record = witness.view().client(shm::ClientId{1});
        record.pid_namespace = 0;
        record.time_namespace = 0;
        record.process = start_time(holder->pid()).value_or(0);
        witness.view().header().incompat = 0;
        witness.view().segment(0).object = 0;
    }
    const pid_t holder_pid = holder->pid();
    const std::string plain = "mempool." + pool_;
    fs::remove("/dev/shm/" + mempool_test::object_of(pool_, 0));
    // Not removed: another daemon's directory could then get its inode number, as if it served the
    // pool.
    fs::rename(daemon_.socket_path() + ".d", daemon_.socket_path() + ".lost");
    const Snapshot before = look();
    EXPECT_THAT(before.names, ElementsAre(plain));
    daemon_.restart();
    EXPECT_THAT(daemon_.last_log(), HasSubstr(versions()));
    EXPECT_EQ(look(), before);
    // Its number says nothing once it has ended: an operator does.
    holder->kill9();
    reload();
    EXPECT_THAT(daemon_.last_log(), HasSubstr("(pid " + std::to_string(holder_pid) + " unseen)"));
    EXPECT_EQ(look(), before);
    fs::remove("/dev/shm/" + plain);
    reload();
    const PoolClient client(daemon_.socket_path(), pool_);
    EXPECT_EQ(client.view().header().layout_version, shm::kLayoutVersion);
}

}  // namespace
}  // namespace mempoold
