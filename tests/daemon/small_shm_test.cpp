// A full /dev/shm: an error that says how much is missing, at creation and at growth, and no
// SIGBUS.
#include "support/small_shm.hpp"

#include <gmock/gmock.h>

#include <string>

#include "mempool/shm/recovery/audit.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using testing::HasSubstr;

class SmallShmTest : public testing::Test {
protected:
    void SetUp() override {
        if (!shm_.made()) {
            GTEST_SKIP() << "no mount namespace of our own";
        }
    }
    const std::string pool_ = mempool_test::unique_pool("small");
    mempool_test::SmallShm shm_;
    mempool_test::DaemonProcess daemon_;
};

TEST_F(SmallShmTest, APoolThatDoesNotFitIsRefusedAndLeavesNothing) {
    daemon_.launch({"--pool", pool_ + ":64KiBx1024"});
    EXPECT_EQ(daemon_.wait(), 1);
    EXPECT_THAT(daemon_.log(), HasSubstr("pool '" + pool_ + "' needs"));
    EXPECT_THAT(daemon_.log(), HasSubstr("of 16777216 free"));
    EXPECT_TRUE(mempool_test::objects_of(pool_).empty());
}

TEST_F(SmallShmTest, GrowthThatDoesNotFitIsRefusedAndLosesNothing) {
    daemon_.start({"--pool", pool_ + ":64KiBx128,max_slots=2000,grow_slots=1000"});
    PoolClient client(daemon_.socket_path(), pool_);
    EXPECT_EQ(client.get(1000), 128U);
    EXPECT_TRUE(eventually([&] { return client.view().live().grow_failures.load() > 0; }));
    daemon_.wait_for_log("cannot grow by 1000");
    EXPECT_EQ(mempool_test::objects_of(pool_).size(), 1U);
    EXPECT_EQ(client.census().held, 128U);
    EXPECT_TRUE(shm::audit(client.view()).findings.empty());

    RawClient admin(daemon_.socket_path());
    auto reply = admin.ask(make_request(RequestKind::kGrow, pool_, 1000));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, ENOSPC);
    EXPECT_THAT(std::string(shm::text_of(reply->text)), HasSubstr("bytes more in /dev/shm"));
    reply = admin.ask(make_request(RequestKind::kGrow, pool_, 10));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0) << "a smaller step fits";
}

}  // namespace
}  // namespace mempoold
