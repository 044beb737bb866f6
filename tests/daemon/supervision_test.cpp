// Clients that die, leave, exec, stop, and outlive the daemon.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>

#include "mempool/shm/audit.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;

class SupervisionTest : public testing::Test {
protected:
    void SetUp() override {
        daemon_.start({"--pool", pool_ + ":64x512"});
        witness_ = std::make_unique<PoolClient>(daemon_.socket_path(), pool_);
    }

    // A child that holds `slots` slots; with or without its connection.
    std::unique_ptr<ChildProcess> start_holder(std::uint32_t slots, bool connected = true) {
        return std::make_unique<ChildProcess>([&] {
            auto* client = new PoolClient(daemon_.socket_path(), pool_);  // leaked: stays attached
            if (client->get(slots) != slots) {
                throw std::runtime_error("exhausted");
            }
            if (!connected) {
                client->connection().close();
            }
        });
    }
    bool held_becomes(std::uint64_t slots) {
        return eventually([&] { return witness_->census().held == slots; });
    }
    void expect_clean() {
        const auto audit = shm::audit(witness_->view());
        EXPECT_TRUE(audit.findings.empty()) << audit.findings.size();
    }
    // Gives the daemon the time to look at clients without a connection, which it does each second.
    void let_a_second_pass() {
        const std::uint32_t now = witness_->view().live().now.load();
        EXPECT_TRUE(eventually([&] { return witness_->view().live().now.load() > now + 2; }));
    }

    const std::string pool_ = mempool_test::unique_pool("supervision");
    mempool_test::DaemonProcess daemon_;
    std::unique_ptr<PoolClient> witness_;
};

TEST_F(SupervisionTest, AKilledClientIsReclaimed) {
    const auto holder = start_holder(100);
    EXPECT_EQ(witness_->census().held, 100U);
    holder->kill9();
    EXPECT_TRUE(held_becomes(0));
    EXPECT_TRUE(eventually([&] { return witness_->view().live().deaths.load() == 1; }));
    EXPECT_EQ(witness_->view().live().reclaimed.load(), 100U);
    EXPECT_TRUE(eventually([&] { return witness_->census().free == 512; }));
    expect_clean();
}

TEST_F(SupervisionTest, AClientKilledWithoutAConnectionIsReclaimed) {
    const auto holder = start_holder(100, false);
    let_a_second_pass();
    EXPECT_EQ(witness_->census().held, 100U) << "it lives and maps the pool";
    holder->kill9();
    EXPECT_TRUE(held_becomes(0));
    expect_clean();
}

TEST_F(SupervisionTest, AStoppedClientKeepsItsSlots) {
    const auto holder = start_holder(100);
    holder->stop();
    let_a_second_pass();
    EXPECT_EQ(witness_->census().held, 100U);
    holder->kill9();
    EXPECT_TRUE(held_becomes(0));
}

TEST_F(SupervisionTest, AClientThatExecsIsReclaimed) {
    const pid_t child = ::fork();
    if (child == 0) {
        auto* client = new PoolClient(daemon_.socket_path(), pool_);
        client->get(50);
        ::execlp("sleep", "sleep", "1000", nullptr);
        ::_exit(1);
    }
    EXPECT_TRUE(eventually([&] { return witness_->view().live().reclaimed.load() == 50; }));
    EXPECT_TRUE(held_becomes(0));
    EXPECT_EQ(::kill(child, 0), 0) << "its process still lives";
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    expect_clean();
}

TEST_F(SupervisionTest, GoodbyeFreesTheIdAtOnceAndIsNoDeath) {
    auto client = std::make_unique<PoolClient>(daemon_.socket_path(), pool_);
    const shm::ClientId id{client->id()};
    EXPECT_EQ(client->get(5), 5U);
    client->view().client(id).state.store(shm::ClientState::kLeaving);
    EXPECT_EQ(client->connection().send(make_request(RequestKind::kBye)), 0);
    EXPECT_TRUE(client->connection().is_closed());
    EXPECT_TRUE(held_becomes(0));
    EXPECT_EQ(witness_->view().client(id).state.load(), shm::ClientState::kFree);
    EXPECT_EQ(witness_->view().live().deaths.load(), 0U);
}

TEST_F(SupervisionTest, ALeavingClientsConnectionEndsIt) {
    auto client = std::make_unique<PoolClient>(daemon_.socket_path(), pool_);
    client->get(5);
    client->view().client(shm::ClientId{client->id()}).state.store(shm::ClientState::kLeaving);
    client->connection().close();
    EXPECT_TRUE(held_becomes(0));
}

TEST_F(SupervisionTest, AProcessMayAttachTwice) {
    auto holder = std::make_unique<ChildProcess>([&] {
        for (int k = 0; k < 2; ++k) {
            (new PoolClient(daemon_.socket_path(), pool_))->get(20);
        }
    });
    EXPECT_EQ(witness_->census().held, 40U);
    holder->kill9();
    EXPECT_TRUE(held_becomes(0));
    EXPECT_TRUE(eventually([&] { return witness_->view().live().deaths.load() == 2; }));
}

TEST_F(SupervisionTest, ClientsOutliveAKilledDaemon) {
    const auto holder = start_holder(100);
    daemon_.kill9();
    EXPECT_EQ(witness_->census().held, 100U);
    daemon_.restart();
    EXPECT_EQ(witness_->census().held, 100U);
    EXPECT_EQ(witness_->view().live().daemon_starts.load(), 2U);
    holder->kill9();
    EXPECT_TRUE(held_becomes(0));
    expect_clean();
}

TEST_F(SupervisionTest, WhoDiedWhileNoDaemonWasThereIsReclaimedBeforeReady) {
    const auto holder = start_holder(100);
    daemon_.kill9();
    holder->kill9();
    EXPECT_EQ(witness_->census().held, 100U);
    daemon_.restart();
    EXPECT_EQ(witness_->census().held, 0U);
    EXPECT_EQ(witness_->view().live().deaths.load(), 1U);
    expect_clean();
}

TEST_F(SupervisionTest, AReusedPidIsNotTheClient) {
    const auto holder = start_holder(100);
    daemon_.kill9();
    // The same number, another process: as after a reboot of the counter.
    witness_->view().client(shm::ClientId{2}).process += 1;
    daemon_.restart();
    EXPECT_EQ(witness_->census().held, 0U);
}

TEST_F(SupervisionTest, NonsenseInTheClientTableDoesNotStopTheDaemon) {
    daemon_.kill9();
    for (std::uint32_t id = 2; id < 200; ++id) {
        auto& record = witness_->view().client(shm::ClientId{id});
        record.pid = id % 2 == 0 ? 0xffff'fff0U + id : 0;
        record.state.store(static_cast<shm::ClientState>(id % 7));
    }
    daemon_.restart();
    EXPECT_EQ(witness_->view().client(shm::ClientId{100}).state.load(), shm::ClientState::kFree);
    const PoolClient another(daemon_.socket_path(), pool_);
    EXPECT_NE(another.id(), 1U);
}

TEST_F(SupervisionTest, AClientResumesAfterARestart) {
    daemon_.kill9();
    daemon_.restart();
    RawClient again(daemon_.socket_path());
    const auto reply = again.ask(make_resume(pool_, *witness_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    shm::UniqueFd fd;
    ASSERT_TRUE(again.ask(make_request(RequestKind::kSegment, "", 0), &fd));
    EXPECT_TRUE(fd);
    EXPECT_EQ(again.send(make_request(RequestKind::kBye)), 0);
    EXPECT_TRUE(again.is_closed());
    EXPECT_EQ(witness_->view().client(shm::ClientId{1}).state.load(), shm::ClientState::kFree);
}

TEST_F(SupervisionTest, AResumeTakesTheFormerConnectionsPlace) {
    witness_->get(3);
    RawClient again(daemon_.socket_path());
    const auto reply = again.ask(make_resume(pool_, *witness_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    EXPECT_TRUE(witness_->connection().is_closed());
    EXPECT_EQ(witness_->census().held, 3U);
    ASSERT_TRUE(again.ask(make_request(RequestKind::kSegment, "", 0)));
    EXPECT_EQ(witness_->view().live().deaths.load(), 0U);
}

TEST_F(SupervisionTest, ReclaimByHandSaysWhatItDid) {
    witness_->get(3);
    // Slots of an id that nobody has.
    for (std::uint32_t i = 0; i < 512; ++i) {
        auto& word = witness_->view().word(shm::SlotIndex{i});
        shm::SlotWord seen{word.load()};
        if (seen.state() == shm::SlotState::kHeld) {
            word.store(shm::SlotWord::held(seen.generation(), shm::ClientId{9}).bits);
        }
    }
    RawClient admin(daemon_.socket_path());
    const auto reply = admin.ask(make_request(RequestKind::kReclaim, pool_, ~0ULL));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    EXPECT_EQ(reply->values[0], 3U);
    EXPECT_EQ(reply->values[2], 0U);
    EXPECT_EQ(witness_->census().held, 0U);
}

TEST_F(SupervisionTest, ATruncatedPoolIsGivenUpAndTheDaemonLives) {
    witness_.reset();
    ASSERT_EQ(::truncate(("/dev/shm/mempool." + pool_).c_str(), 4096), 0);
    daemon_.wait_for_log("somebody truncated its file");
    RawClient client(daemon_.socket_path());
    const auto reply = client.ask(make_request(RequestKind::kAttach, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ENOENT);
    daemon_.reload();
    daemon_.wait_for_log("was set aside as");
    EXPECT_TRUE(eventually([&] {
        const auto again = client.ask(make_request(RequestKind::kAttach, pool_));
        return again && again->error == 0;
    }));
}

}  // namespace
}  // namespace mempoold
