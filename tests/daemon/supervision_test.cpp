// Clients that die, leave, exec, stop, and outlive the daemon.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "mempool/shm/recovery/audit.hpp"
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
    std::optional<shm::Reply> resume(const shm::payload::Attachment& shown) {
        shm::Request request = make_request(RequestKind::kResume, pool_);
        shm::payload::put(request, shown);
        return RawClient(daemon_.socket_path()).ask(request);
    }
    std::optional<shm::Reply> end(const PoolClient& client, shm::EndHow how,
                                  std::uint64_t epochs_on = 0) {
        shm::Request request = make_request(RequestKind::kEnd, pool_);
        shm::payload::put(request, shm::payload::End{.client = client.id(),
                                                     .epoch = client.attachment().epoch + epochs_on,
                                                     .how = static_cast<std::uint64_t>(how)});
        return RawClient(daemon_.socket_path()).ask(request);
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
    EXPECT_EQ(client->connection().send(make_goodbye(*client)), 0);
    EXPECT_TRUE(client->connection().is_closed());
    EXPECT_TRUE(held_becomes(0));
    EXPECT_EQ(witness_->view().client(id).state.load(), shm::ClientState::kFree);
    EXPECT_EQ(witness_->view().live().deaths.load(), 0U);
}

TEST_F(SupervisionTest, ALeavingClientsConnectionEndsIt) {
    auto client = std::make_unique<PoolClient>(daemon_.socket_path(), pool_);
    client->get(5);
    client->view().lane(shm::LaneId{client->id()}).farewell.store(client->attachment().token);
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
    EXPECT_EQ(witness_->view().client(shm::ClientId{100}).state.load(), shm::ClientState::kUnseen)
        << "what makes no sense counts as alive";
    EXPECT_EQ(witness_->view().client(shm::ClientId{98}).state.load(), shm::ClientState::kFree);
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
    EXPECT_EQ(again.send(make_goodbye(*witness_)), 0);
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

TEST_F(SupervisionTest, AResumeIsGrantedToTheRightTokenAlone) {
    const PoolClient other(daemon_.socket_path(), pool_);
    witness_->get(3);
    const shm::payload::Attachment mine = witness_->attachment();
    auto wrong = mine;
    wrong.token += 1;
    EXPECT_EQ(resume(wrong)->error, ESTALE);
    wrong = mine;
    wrong.token = 0;
    EXPECT_EQ(resume(wrong)->error, ESTALE);
    wrong = mine;
    wrong.epoch += 1;
    EXPECT_EQ(resume(wrong)->error, ESTALE);
    wrong = mine;
    wrong.client = other.id();  // of the same process
    EXPECT_EQ(resume(wrong)->error, ESTALE);
    wrong = mine;
    wrong.token = witness_->view().client(shm::ClientId{witness_->id()}).token_hash;
    EXPECT_EQ(resume(wrong)->error, ESTALE)
        << "what others can read in shared memory proves nothing";
    EXPECT_EQ(witness_->census().held, 3U);
    EXPECT_EQ(resume(mine)->error, 0);
}

TEST_F(SupervisionTest, AForkedChildCannotResumeItsParentsClient) {
    const auto mine = witness_->attachment();
    EXPECT_THROW(ChildProcess([&] {
                     if (const auto reply = resume(mine); !reply || reply->error != 0) {
                         throw std::runtime_error("refused");
                     }
                 }),
                 std::runtime_error);
}

TEST_F(SupervisionTest, AGoodbyeWithTheTokenCountsOnAnyConnection) {
    PoolClient client(daemon_.socket_path(), pool_);
    client.get(5);
    RawClient other(daemon_.socket_path());
    shm::Request bye = make_goodbye(client);
    shm::copy_text(bye.pool, pool_);
    EXPECT_EQ(other.send(bye), 0);
    EXPECT_TRUE(held_becomes(0));
    EXPECT_TRUE(client.connection().is_closed());
}

TEST_F(SupervisionTest, AGoodbyeWithoutTheTokenEndsNobody) {
    witness_->get(3);
    EXPECT_EQ(witness_->connection().send(make_request(RequestKind::kBye, "", 4711)), 0);
    EXPECT_TRUE(witness_->connection().is_closed());
    let_a_second_pass();
    EXPECT_EQ(witness_->census().held, 3U);
    EXPECT_EQ(resume(witness_->attachment())->error, 0);
}

TEST_F(SupervisionTest, AnothersWordThatAClientLeavesEndsNobody) {
    const auto holder = start_holder(10, false);
    auto& record = witness_->view().client(shm::ClientId{2});
    record.state.store(shm::ClientState::kLeaving);
    witness_->view().lane(shm::LaneId{2}).farewell.store(record.token_hash);
    let_a_second_pass();
    EXPECT_EQ(witness_->census().held, 10U);
    daemon_.kill9();
    daemon_.restart();
    EXPECT_EQ(witness_->census().held, 10U);
}

TEST_F(SupervisionTest, AClientThatExecsWhileNoDaemonIsThereIsReclaimed) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        auto* client = new PoolClient(daemon_.socket_path(), pool_);
        client->get(50);
        char go = 0;
        if (::read(pipe[0], &go, 1) == 1) {
            ::execlp("sleep", "sleep", "1000", nullptr);
        }
        ::_exit(1);
    }
    EXPECT_TRUE(held_becomes(50));
    daemon_.kill9();
    EXPECT_EQ(::write(pipe[1], "x", 1), 1);
    daemon_.restart();
    EXPECT_TRUE(held_becomes(0));
    EXPECT_EQ(::kill(child, 0), 0) << "its process still lives";
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(pipe[0]);
    ::close(pipe[1]);
}

TEST_F(SupervisionTest, AClientThatExecsWhileAChildKeepsItsConnectionIsReclaimed) {
    const pid_t child = ::fork();
    if (child == 0) {
        auto* client = new PoolClient(daemon_.socket_path(), pool_);
        client->get(50);
        if (const pid_t keeper = ::fork(); keeper == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;) {
                ::pause();
            }
        }
        ::execlp("sleep", "sleep", "1000", nullptr);
        ::_exit(1);
    }
    EXPECT_TRUE(held_becomes(50));
    EXPECT_TRUE(held_becomes(0));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
}

TEST_F(SupervisionTest, NumbersOfAnotherPidNamespaceSayNothing) {
    const auto holder = start_holder(100);
    daemon_.kill9();
    // As a daemon in another namespace would find it: nobody has that number here.
    auto& record = witness_->view().client(shm::ClientId{2});
    record.pid_namespace += 1;
    record.pid = 0x3fff'fff0;
    daemon_.restart();
    EXPECT_EQ(witness_->census().held, 100U);
    EXPECT_EQ(record.state.load(), shm::ClientState::kUnseen);
    daemon_.wait_for_log("cannot be seen from here and counts as alive");
    let_a_second_pass();
    EXPECT_EQ(witness_->census().held, 100U);
}

TEST_F(SupervisionTest, AClientThatCannotBeSeenIsSeenAgainOnceItResumes) {
    witness_->get(5);
    daemon_.kill9();
    witness_->view().client(shm::ClientId{1}).pid_namespace += 1;
    witness_->view().client(shm::ClientId{1}).pid = 0x3fff'fff0;
    daemon_.restart();
    const auto& state = witness_->view().client(shm::ClientId{1}).state;
    EXPECT_EQ(state.load(), shm::ClientState::kUnseen);
    EXPECT_EQ(resume(witness_->attachment())->error, 0);
    EXPECT_TRUE(eventually([&] { return state.load() == shm::ClientState::kActive; }));
}

TEST_F(SupervisionTest, AnEndedClientKeepsItsIdUntilItsProcessHasEnded) {
    const auto holder = start_holder(10);
    PoolClient mine(daemon_.socket_path(), pool_);
    mine.get(7);
    EXPECT_EQ(end(mine, shm::EndHow::kRefuse, 1)->error, ESRCH) << "another epoch's";
    const auto reply = end(mine, shm::EndHow::kRefuse);
    ASSERT_TRUE(reply);
    ASSERT_EQ(reply->error, 0) << reply->text;
    EXPECT_EQ(shm::payload::of<shm::payload::Ended>(*reply).left, 7U);
    EXPECT_TRUE(mine.connection().is_closed());
    const auto& record = mine.view().client(shm::ClientId{mine.id()});
    EXPECT_EQ(record.state.load(), shm::ClientState::kEnded);
    EXPECT_EQ(record.epoch.load(), mine.attachment().epoch + 1);
    EXPECT_EQ(resume(mine.attachment())->error, ESTALE);
    // Its process attaches again, as another client; a restart changes nothing.
    daemon_.kill9();
    daemon_.restart();
    const PoolClient again(daemon_.socket_path(), pool_);
    EXPECT_NE(again.id(), mine.id());
    EXPECT_EQ(record.state.load(), shm::ClientState::kEnded);
    EXPECT_EQ(witness_->census().held, 17U);
    EXPECT_EQ(shm::payload::of<shm::payload::Ended>(*end(mine, shm::EndHow::kForce, 1)).slots, 7U);
    EXPECT_EQ(witness_->census().held, 10U) << "by force";
    EXPECT_EQ(record.state.load(), shm::ClientState::kEnded) << "the id stays taken";
}

TEST_F(SupervisionTest, AnEndedClientsDeathFreesItsId) {
    const auto holder = start_holder(10);
    const auto& record = witness_->view().client(shm::ClientId{2});
    shm::Request request = make_request(RequestKind::kEnd, pool_);
    shm::payload::put(request, shm::payload::End{.client = 2, .epoch = record.epoch.load()});
    ASSERT_EQ(RawClient(daemon_.socket_path()).ask(request)->error, 0);
    EXPECT_EQ(record.state.load(), shm::ClientState::kEnded);
    EXPECT_EQ(witness_->census().held, 10U);
    holder->kill9();
    EXPECT_TRUE(held_becomes(0));
    EXPECT_TRUE(eventually([&] { return record.state.load() == shm::ClientState::kFree; }));
    expect_clean();
}

TEST_F(SupervisionTest, ToKillAClientTheOperatorGetsItsPidfd) {
    const auto holder = start_holder(10);
    shm::Request request = make_request(RequestKind::kEnd, pool_);
    shm::payload::put(
        request, shm::payload::End{.client = 2,
                                   .epoch = witness_->view().client(shm::ClientId{2}).epoch.load(),
                                   .how = static_cast<std::uint64_t>(shm::EndHow::kKill)});
    shm::UniqueFd pidfd;
    RawClient admin(daemon_.socket_path());
    ASSERT_EQ(admin.ask(request, &pidfd)->error, 0);
    ASSERT_TRUE(pidfd);
    EXPECT_EQ(witness_->census().held, 10U) << "the daemon itself kills nobody";
    EXPECT_EQ(::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0), 0);
    EXPECT_TRUE(held_becomes(0));
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
