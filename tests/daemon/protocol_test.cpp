// What the daemon answers on its socket, and that nonsense harms nobody but its sender.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "mempool/shm/recovery/audit.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using testing::HasSubstr;

class ProtocolTest : public testing::Test {
protected:
    void SetUp() override {
        daemon_.start({"--pool", pool_ + ":4KiBx64,max_slots=200,low_watermark=0,max_clients=3"});
    }
    std::string socket() const { return daemon_.socket_path(); }

    // The daemon serves others as before.
    void expect_service() {
        EXPECT_TRUE(daemon_.is_running());
        RawClient other(socket());
        const auto reply = other.ask(make_request(RequestKind::kStatus));
        ASSERT_TRUE(reply);
        EXPECT_EQ(reply->values[0], static_cast<std::uint64_t>(daemon_.pid()));
    }

    // Nonsense of this form closes the connection, with a reason in the log.
    void expect_refused(RawClient& client, const std::string& reason) {
        EXPECT_TRUE(client.is_closed());
        daemon_.wait_for_log(reason);
        expect_service();
    }

    const std::string pool_ = mempool_test::unique_pool("protocol");
    mempool_test::DaemonProcess daemon_;
};

TEST_F(ProtocolTest, StatusNamesTheDaemon) {
    RawClient client(socket());
    const auto reply = client.ask(make_request(RequestKind::kStatus));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    EXPECT_EQ(reply->kind, RequestKind::kStatus);
    EXPECT_EQ(reply->values[0], static_cast<std::uint64_t>(daemon_.pid()));
    EXPECT_GT(reply->values[1], 0U);
    EXPECT_EQ(shm::text_of(reply->text), MEMPOOLD_VERSION);
}

TEST_F(ProtocolTest, ListNamesThePools) {
    RawClient client(socket());
    auto reply = client.ask(make_request(RequestKind::kList, "", 0));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->values[0], 1U);
    EXPECT_EQ(shm::text_of(reply->text), pool_);
    reply = client.ask(make_request(RequestKind::kList, "", 77));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->values[0], 1U);
    EXPECT_EQ(shm::text_of(reply->text), "");
}

TEST_F(ProtocolTest, AnAttachedClientCanGetSlots) {
    PoolClient client(socket(), pool_);
    EXPECT_EQ(client.id(), 1U);
    EXPECT_EQ(client.get(10), 10U);
    const auto& record = client.view().client(shm::ClientId{1});
    EXPECT_EQ(record.state.load(), shm::ClientState::kActive);
    EXPECT_EQ(record.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_NE(record.process, 0U);
    EXPECT_STRNE(record.command, "");
}

TEST_F(ProtocolTest, WhoInspectsReadsMetadataAndGetsNoDescriptor) {
    const PoolClient client(socket(), pool_);
    RawClient looker(socket());
    shm::UniqueFd fd;
    auto reply = looker.ask(make_request(RequestKind::kInspect, pool_), &fd);
    ASSERT_TRUE(reply);
    EXPECT_FALSE(fd);
    EXPECT_EQ(shm::text_of(reply->text), "") << "no name is missing";
    const std::uint64_t whole = client.view().geometry().slots_offset;
    EXPECT_EQ(shm::payload::of<shm::payload::Inspected>(*reply).bytes, whole);
    const auto read = [&](std::uint64_t offset, std::uint64_t bytes, std::string& data) {
        shm::Request request = make_request(RequestKind::kRead, "");
        shm::payload::put(request, shm::payload::Read{offset, bytes});
        return looker.read(request, data);
    };
    std::string data;
    reply = read(shm::kPage, shm::kPage, data);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    ASSERT_EQ(data.size(), shm::kPage);
    std::uint32_t segments = 0;
    std::memcpy(&segments, data.data() + offsetof(shm::Live, segment_count), sizeof(segments));
    EXPECT_EQ(segments, 1U);
    // The last bytes of the arrays have no memory yet.
    reply = read(whole - shm::kPage, shm::kPage, data);
    ASSERT_TRUE(reply);
    EXPECT_EQ(data, std::string(shm::kPage, '\0'));
    for (const auto& [offset, bytes] : {std::pair<std::uint64_t, std::uint64_t>{whole - 8, 16},
                                        {whole, 8},
                                        {~7ULL, 8},
                                        {0, shm::kMaxReadBytes + 8},
                                        {0, 0},
                                        {4, 8},
                                        {0, 12}}) {
        reply = read(offset, bytes, data);
        ASSERT_TRUE(reply);
        EXPECT_EQ(reply->error, EINVAL) << offset << ' ' << bytes;
        EXPECT_EQ(data, "");
    }
}

TEST_F(ProtocolTest, ReadingWithoutAnInspectIsNoRequest) {
    RawClient looker(socket());
    EXPECT_FALSE(looker.ask(make_request(RequestKind::kRead, "", 0)));
}

TEST_F(ProtocolTest, SegmentsAreGivenByNumber) {
    PoolClient client(socket(), pool_);
    auto reply = client.connection().ask(make_request(RequestKind::kSegment, "", 1));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EINVAL);
    RawClient admin(socket());
    reply = admin.ask(make_request(RequestKind::kGrow, pool_, 20));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->values[0], 20U);
    shm::UniqueFd fd;
    reply = client.connection().ask(make_request(RequestKind::kSegment, "", 1), &fd);
    ASSERT_TRUE(reply && fd);
    EXPECT_EQ(::fcntl(fd.get(), F_GETFL) & O_ACCMODE, O_RDWR);
    reply = client.connection().ask(make_request(RequestKind::kSegment, "", ~0ULL));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EINVAL);
}

TEST_F(ProtocolTest, GrowthByHandStopsAtMaxSlots) {
    RawClient admin(socket());
    auto reply = admin.ask(make_request(RequestKind::kGrow, pool_, 1'000'000));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->values[0], 136U);
    reply = admin.ask(make_request(RequestKind::kGrow, pool_, 1));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ENOSPC);
    EXPECT_EQ(shm::text_of(reply->text), "pool '" + pool_ + "' is at max_slots")
        << "the errno's text is added by whoever shows the error";
}

// Growth is answered when it is over: what was asked after it waits for its turn.
TEST_F(ProtocolTest, AnswersComeInTheOrderOfTheRequests) {
    RawClient admin(socket());
    for (const std::uint64_t slots : {10U, 20U}) {
        ASSERT_EQ(admin.send(make_request(RequestKind::kGrow, pool_, slots)), 0);
    }
    ASSERT_EQ(admin.send(make_request(RequestKind::kReclaim, pool_, ~0ULL)), 0);
    ASSERT_EQ(admin.send(make_request(RequestKind::kStatus)), 0);
    for (const RequestKind kind :
         {RequestKind::kGrow, RequestKind::kGrow, RequestKind::kReclaim, RequestKind::kStatus}) {
        const auto reply = admin.receive();
        ASSERT_TRUE(reply);
        EXPECT_EQ(reply->kind, kind);
        EXPECT_EQ(reply->error, 0);
    }
}

TEST_F(ProtocolTest, WhoAsksForGrowthAndLeavesBreaksNothing) {
    {
        RawClient admin(socket());
        ASSERT_EQ(admin.send(make_request(RequestKind::kGrow, pool_, 100)), 0);
    }
    const PoolClient client(socket(), pool_);
    EXPECT_TRUE(eventually([&] { return client.census().slots == 164; }));
    expect_service();
}

TEST_F(ProtocolTest, AnEmptyDepotMakesThePoolGrow) {
    PoolClient client(socket(), pool_);
    EXPECT_EQ(client.get(1000), 64U);
    client.view().live().grow_wanted.store(1);
    EXPECT_EQ(client.connection().send(make_request(RequestKind::kWantMore)), 0);
    EXPECT_TRUE(eventually([&] { return client.view().segment_count() == 2; }));
    EXPECT_EQ(client.census().slots, 128U);
}

TEST_F(ProtocolTest, AnUnknownPoolIsNamed) {
    RawClient client(socket());
    auto reply = client.ask(make_request(RequestKind::kAttach, "no-such-pool"));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ENOENT);
    EXPECT_THAT(std::string(shm::text_of(reply->text)), HasSubstr("no pool 'no-such-pool'"));
    reply = client.ask(make_request(RequestKind::kAttach, "../etc/passwd"));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EINVAL);
    reply = client.ask(make_request(RequestKind::kAttach, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0) << "it may try again";
}

TEST_F(ProtocolTest, WithAllIdsInUseAttachSaysSo) {
    const PoolClient a(socket(), pool_);
    const PoolClient b(socket(), pool_);
    const auto c = std::make_unique<PoolClient>(socket(), pool_);
    RawClient one_more(socket());
    auto reply = one_more.ask(make_request(RequestKind::kAttach, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EUSERS);
    EXPECT_THAT(std::string(shm::text_of(reply->text)), HasSubstr("raise max_clients"));
    EXPECT_EQ(c->connection().send(make_goodbye(*c)), 0);
    EXPECT_TRUE(c->connection().is_closed());
    reply = one_more.ask(make_request(RequestKind::kAttach, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
}

TEST_F(ProtocolTest, AnotherVersionIsToldBoth) {
    RawClient client(socket());
    shm::Request request = make_request(RequestKind::kAttach, pool_);
    request.version = shm::kWireVersion + 6;
    const auto reply = client.ask(request);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EPROTO);
    EXPECT_THAT(std::string(shm::text_of(reply->text)),
                HasSubstr("wire version " + std::to_string(request.version)));
    EXPECT_THAT(std::string(shm::text_of(reply->text)),
                HasSubstr("speaks " + std::to_string(shm::kWireVersion)));
    EXPECT_TRUE(client.is_closed());
    expect_service();
}

TEST_F(ProtocolTest, RandomBytesCloseTheConnection) {
    std::mt19937 random(4711);
    for (const std::size_t length : {1U, 7U, 111U, 112U, 113U, 560U, 5000U}) {
        RawClient client(socket());
        std::string bytes(length, '\0');
        std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<char>(random()); });
        ASSERT_EQ(client.send_bytes(bytes), 0);
        expect_refused(client, "what is no request");
    }
}

TEST_F(ProtocolTest, AnOversizedMessageClosesTheConnection) {
    RawClient client(socket());
    const shm::Request request = make_request(RequestKind::kStatus);
    std::string bytes(100'000, 'x');
    std::memcpy(bytes.data(), &request, sizeof(request));
    ASSERT_EQ(client.send_bytes(bytes), 0);
    expect_refused(client, "what is no request");
}

TEST_F(ProtocolTest, HalfAMessageClosesTheConnection) {
    RawClient client(socket());
    const shm::Request request = make_request(RequestKind::kAttach, pool_);
    ASSERT_EQ(client.send_bytes({reinterpret_cast<const char*>(&request), 56}), 0);
    expect_refused(client, "what is no request");
}

TEST_F(ProtocolTest, AnUnknownKindClosesTheConnection) {
    RawClient client(socket());
    ASSERT_EQ(client.send(make_request(static_cast<RequestKind>(999))), 0);
    expect_refused(client, "unknown kind 999");
}

TEST_F(ProtocolTest, ANameWithoutAnEndClosesTheConnection) {
    RawClient client(socket());
    shm::Request request = make_request(RequestKind::kAttach);
    std::memset(request.pool, 'a', sizeof(request.pool));
    ASSERT_EQ(client.send(request), 0);
    expect_refused(client, "name without an end");
}

TEST_F(ProtocolTest, RequestsOfAttachedClientsNeedAnAttach) {
    for (const auto kind : {RequestKind::kSegment, RequestKind::kWantMore, RequestKind::kBye}) {
        RawClient client(socket());
        ASSERT_EQ(client.send(make_request(kind)), 0);
        expect_refused(client, "before an attach");
    }
}

TEST_F(ProtocolTest, ASecondAttachClosesTheConnectionAndNothingElse) {
    const PoolClient witness(socket(), pool_);
    PoolClient client(socket(), pool_);
    ASSERT_EQ(client.connection().send(make_request(RequestKind::kAttach, pool_)), 0);
    expect_refused(client.connection(), "an attach on a connection that has a pool");
    EXPECT_EQ(witness.view().client(shm::ClientId{1}).state.load(), shm::ClientState::kActive);
    EXPECT_EQ(witness.view().client(shm::ClientId{2}).state.load(), shm::ClientState::kActive)
        << "its process lives and maps the pool";
}

TEST_F(ProtocolTest, DescriptorsThatNobodyAskedForAreClosed) {
    RawClient client(socket());
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const shm::UniqueFd read_end{pipe[0]};
    shm::UniqueFd write_end{pipe[1]};
    // Linux 6.16 and later refuses it for the daemon.
    const int error = client.send(make_request(RequestKind::kStatus), write_end.get());
    EXPECT_TRUE(error == EPERM || (error == 0 && client.is_closed())) << error;
    write_end.reset();
    char byte = 0;
    EXPECT_EQ(::read(read_end.get(), &byte, 1), 0) << "the daemon keeps the other end";
}

TEST_F(ProtocolTest, AnotherProcessCannotResumeAClient) {
    const ChildProcess child([&] {
        auto* client = new PoolClient(socket(), pool_);  // leaked: it stays attached
        client->get(3);
        client->connection().close();
    });
    RawClient thief(socket());
    const auto reply = thief.ask(make_request(RequestKind::kResume, pool_, 1));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ESTALE);
    for (const std::uint64_t id : {0ULL, 2ULL, 99ULL, ~0ULL, 1ULL << 32U}) {
        const auto other = thief.ask(make_request(RequestKind::kResume, pool_, id));
        ASSERT_TRUE(other);
        EXPECT_EQ(other->error, ESTALE);
    }
}

TEST_F(ProtocolTest, APeerThatDoesNotReadIsClosed) {
    RawClient client(socket());
    const shm::Request request = make_request(RequestKind::kStatus);
    int error = 0;
    for (int k = 0; k < 100'000 && error == 0; ++k) {
        error = client.send(request);
    }
    EXPECT_TRUE(error == EPIPE || error == ECONNRESET) << error;
    daemon_.wait_for_log("does not read its replies");
    expect_service();
}

TEST_F(ProtocolTest, ASilentConnectionIsClosed) {
    RawClient client(socket());
    expect_refused(client, "said nothing for 5 seconds");
}

TEST_F(ProtocolTest, GarbageOfAnAttachedClientClosesItsConnectionAndNothingElse) {
    PoolClient client(socket(), pool_);
    EXPECT_EQ(client.get(7), 7U);
    ASSERT_EQ(client.connection().send_bytes("what is that supposed to mean"), 0);
    expect_refused(client.connection(), "what is no request");
    EXPECT_EQ(client.census().held, 7U);
    EXPECT_EQ(client.get(5), 5U);
    RawClient again(socket());
    const auto reply = again.ask(make_resume(pool_, client));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
}

TEST_F(ProtocolTest, SilentConnectionsHoldUpNobody) {
    std::vector<std::unique_ptr<RawClient>> silent;
    for (int k = 0; k < 200; ++k) {
        silent.push_back(std::make_unique<RawClient>(socket()));
        if (k % 2 == 0) {  // half of what is said by half of them
            const shm::Request request = make_request(RequestKind::kStatus);
            ASSERT_EQ(silent.back()->send_bytes({reinterpret_cast<const char*>(&request), 56}), 0);
        }
    }
    PoolClient client(socket(), pool_);
    EXPECT_EQ(client.get(3), 3U);
    expect_service();
}

TEST_F(ProtocolTest, ARepairOfASoundPoolMendsNothing) {
    const PoolClient client(socket(), pool_);
    RawClient admin(socket());
    const auto reply = admin.ask(make_request(RequestKind::kRepair, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
    EXPECT_EQ(reply->values[0], 0U);
    EXPECT_EQ(reply->values[1], 1U) << "clients attached";
    EXPECT_EQ(reply->values[2], shm::kFaultCount);
}

TEST_F(ProtocolTest, ManyConnectionsAtOnceAreServed) {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int k = 0; k < 300; ++k) {
        clients.push_back(std::make_unique<RawClient>(socket()));
        ASSERT_EQ(clients.back()->send(make_request(RequestKind::kStatus)), 0);
    }
    for (const auto& client : clients) {
        ASSERT_TRUE(client->receive());
    }
}

}  // namespace
}  // namespace mempoold
