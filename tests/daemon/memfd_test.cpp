// A daemon that serves a pool of memfds: what its clients can and can't, and what its end means.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;

class MemfdTest : public testing::Test {
protected:
    void SetUp() override {
        daemon_.start({"--pool", pool_ + ":4KiBx64,max_slots=200,low_watermark=0,backing=memfd"});
    }
    std::string socket() const { return daemon_.socket_path(); }

    const std::string pool_ = mempool_test::unique_pool("memfd");
    mempool_test::DaemonProcess daemon_;
};

TEST_F(MemfdTest, AClientCannotTruncateWhatItGets) {
    RawClient admin(socket());
    ASSERT_TRUE(admin.ask(make_request(RequestKind::kGrow, pool_, 20)));
    RawClient client(socket());
    shm::UniqueFd first;
    ASSERT_TRUE(client.ask(make_request(RequestKind::kAttach, pool_), &first) && first);
    shm::UniqueFd second;
    ASSERT_TRUE(client.ask(make_request(RequestKind::kSegment, "", 1), &second) && second);
    for (const shm::UniqueFd* fd : {&first, &second}) {
        EXPECT_EQ(::fcntl(fd->get(), F_GETFL) & O_ACCMODE, O_RDWR);
        EXPECT_EQ(::ftruncate(fd->get(), 4096), -1);
        EXPECT_EQ(errno, EPERM);
    }
    EXPECT_TRUE(mempool_test::objects_of(pool_).empty());
    PoolClient another(socket(), pool_);
    EXPECT_EQ(another.get(1000), 84U);
}

TEST_F(MemfdTest, AKilledClientIsReclaimed) {
    const PoolClient witness(socket(), pool_);
    ChildProcess holder([&] {
        auto* client = new PoolClient(socket(), pool_);  // leaked: it stays attached
        if (client->get(30) != 30) {
            throw std::runtime_error("exhausted");
        }
        client->connection().close();
    });
    const std::uint32_t now = witness.view().live().now.load();
    EXPECT_TRUE(eventually([&] { return witness.view().live().now.load() > now + 2; }));
    EXPECT_EQ(witness.census().held, 30U) << "it lives and maps the pool";
    holder.kill9();
    EXPECT_TRUE(eventually([&] { return witness.census().held == 0; }));
}

TEST_F(MemfdTest, WithoutAServiceManagerClientsGoOnAmongThemselves) {
    PoolClient old(socket(), pool_);
    EXPECT_EQ(old.get(3), 3U);
    daemon_.wait_for_log("it is served until this mempoold ends");
    daemon_.kill9();
    EXPECT_EQ(old.get(4), 4U);
    daemon_.restart();
    EXPECT_EQ(old.census().held, 7U);
    PoolClient fresh(socket(), pool_);
    EXPECT_EQ(fresh.census().held, 0U);
    EXPECT_EQ(fresh.id(), old.id()) << "the same number in another pool";
    // The old client must not pass for the new one, though process and number are the same.
    RawClient resuming(socket());
    auto reply = resuming.ask(make_resume(pool_, old));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ESTALE);
    reply = resuming.ask(make_resume(pool_, fresh));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
}

TEST_F(MemfdTest, ACleanStopLeavesWhoMapsItAlone) {
    PoolClient client(socket(), pool_);
    EXPECT_EQ(daemon_.terminate(), 0);
    EXPECT_EQ(client.get(5), 5U);
}

}  // namespace
}  // namespace mempoold
