// The daemon's record of who is attached.
#include "daemon/supervision/client_table.hpp"

#include <gtest/gtest.h>

#include <set>

#include "daemon/storage/storage.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

using mempool::shm::ClientId;
using mempool::shm::ClientState;

class ClientTableTest : public testing::Test {
protected:
    static ClientIdentity client() {
        ClientIdentity identity;
        identity.pid = 4711;
        identity.uid = 1;
        identity.gid = 2;
        identity.start_time = 3;
        identity.command = "a-very-long-command-name";
        return identity;
    }

    const std::string name_ = mempool_test::unique_pool("table");
    std::unique_ptr<Storage> storage_ =
        Storage::create(parse_pool(name_ + ":64x64,max_clients=3", "test"), 1000);
    ClientTable table_{storage_->view()};
};

TEST_F(ClientTableTest, ARecordSaysWhoItIs) {
    const auto id = table_.add(client(), 77);
    ASSERT_TRUE(id);
    EXPECT_EQ(raw(*id), 1U);
    const auto& record = storage_->view().client(*id);
    EXPECT_EQ(record.state.load(), ClientState::kActive);
    EXPECT_EQ(record.pid, 4711U);
    EXPECT_EQ(record.attached_at, 77U);
    EXPECT_EQ(std::string(record.command, sizeof(record.command)), "a-very-long-comm");
}

TEST_F(ClientTableTest, AFullTableGivesNothingOut) {
    for (int k = 0; k < 3; ++k) {
        EXPECT_TRUE(table_.add(client(), 1));
    }
    EXPECT_FALSE(table_.add(client(), 1));
    table_.remove(ClientId{2});
    EXPECT_EQ(table_.add(client(), 1), ClientId{2});
}

TEST_F(ClientTableTest, TheIdFreeForLongestComesNext) {
    EXPECT_EQ(table_.add(client(), 1), ClientId{1});
    table_.remove(ClientId{1});
    EXPECT_EQ(table_.add(client(), 1), ClientId{2});
    EXPECT_EQ(table_.add(client(), 1), ClientId{3});
    table_.remove(ClientId{3});
    table_.remove(ClientId{2});
    EXPECT_EQ(table_.add(client(), 1), ClientId{1});
    EXPECT_EQ(table_.add(client(), 1), ClientId{3});
    EXPECT_EQ(table_.add(client(), 1), ClientId{2});
}

TEST_F(ClientTableTest, OnlyAnActiveRecordIsBelieved) {
    const ClientId id = *table_.add(client(), 1);
    ClientTable next(storage_->view());
    EXPECT_FALSE(next.is_attached(id));
    ASSERT_TRUE(next.recorded(id));
    EXPECT_EQ(next.recorded(id)->pid, 4711);
    for (const auto state : {ClientState::kFree, ClientState::kLeaving, ClientState::kDead,
                             static_cast<ClientState>(99)}) {
        storage_->view().client(id).state.store(state);
        EXPECT_FALSE(next.recorded(id));
    }
}

}  // namespace
}  // namespace mempoold
