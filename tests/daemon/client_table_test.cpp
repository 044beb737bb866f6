// The daemon's record of who is attached.
#include "daemon/supervision/client_table.hpp"

#include <gtest/gtest.h>

#include <set>

#include "daemon/storage/storage.hpp"
#include "daemon/supervision/token.hpp"
#include "support/pool_objects.hpp"
#include "support/storage.hpp"

namespace mempoold {
namespace {

using mempool::shm::ClientId;
using mempool::shm::ClientState;

class ClientTableTest : public testing::Test {
protected:
    static constexpr std::uint64_t kToken = 77;
    static ClientIdentity client() {
        ClientIdentity identity;
        identity.process.pid = 4711;
        identity.uid = 1;
        identity.gid = 2;
        identity.process.key = 3;
        identity.token_hash = hash_of_token(kToken);
        identity.command = "a-very-long-command-name";
        return identity;
    }

    const std::string name_ = mempool_test::unique_pool("table");
    std::unique_ptr<Storage> storage_ =
        create_storage(parse_pool(name_ + ":64x64,max_clients=3", "test"), 1000);
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

TEST_F(ClientTableTest, ADaemonThatStartsFindsWhoIsAttached) {
    const ClientId id = *table_.add(client(), 1);
    ClientTable next(storage_->view());
    EXPECT_FALSE(next.is_attached(id));
    ASSERT_TRUE(next.recorded(id));
    EXPECT_EQ(next.recorded(id)->state, Recorded::kActive);
    EXPECT_EQ(next.recorded(id)->client.process.pid, 4711);
    EXPECT_EQ(next.epoch(id), table_.epoch(id));
    table_.mark_ended(id);
    EXPECT_EQ(next.recorded(id)->state, Recorded::kEnded);
    table_.mark_dead(id);
    EXPECT_EQ(next.recorded(id)->state, Recorded::kDead);
    table_.remove(id);
    EXPECT_FALSE(next.recorded(id));
}

TEST_F(ClientTableTest, AStateThatMakesNoSenseCountsAsAlive) {
    const ClientId id = *table_.add(client(), 1);
    storage_->view().client(id).state.store(static_cast<ClientState>(99));
    EXPECT_EQ(table_.recorded(id)->state, Recorded::kActive);
}

TEST_F(ClientTableTest, OnlyTheTokenProvesThatAClientLeaves) {
    const ClientId id = *table_.add(client(), 1);
    auto& farewell = storage_->view().lane(mempool::shm::LaneId{raw(id)}).farewell;
    storage_->view().client(id).state.store(ClientState::kLeaving);
    for (const std::uint64_t forged : {std::uint64_t{0}, hash_of_token(kToken), kToken + 1}) {
        farewell.store(forged);
        EXPECT_FALSE(table_.says_leaving(id));
        EXPECT_EQ(table_.recorded(id)->state, Recorded::kActive);
    }
    farewell.store(kToken);
    EXPECT_TRUE(table_.says_leaving(id));
    EXPECT_EQ(table_.recorded(id)->state, Recorded::kLeft);
    table_.remove(id);
    while (*table_.add(client(), 1) != id) {
    }
    EXPECT_EQ(farewell.load(), 0U) << "the next client's is its own";
}

TEST_F(ClientTableTest, EachEndRaisesTheEpochOnce) {
    const ClientId id = *table_.add(client(), 1);
    const std::uint32_t before = table_.epoch(id);
    table_.mark_ended(id);
    table_.mark_ended(id);
    EXPECT_EQ(table_.epoch(id), before + 1);
    EXPECT_EQ(storage_->view().client(id).epoch.load(), before + 1);
    EXPECT_TRUE(table_.is_attached(id)) << "its process may live";
    table_.mark_dead(id);
    EXPECT_EQ(storage_->view().client(id).epoch.load(), before + 2);
}

TEST_F(ClientTableTest, ARecordWrittenOverIsRestored) {
    const ClientId id = *table_.add(client(), 1);
    auto& record = storage_->view().client(id);
    record.epoch.store(99);
    record.token_hash = 1;
    record.pid_namespace = 5;
    EXPECT_EQ(table_.restore(), 1U);
    EXPECT_EQ(record.epoch.load(), table_.epoch(id));
    EXPECT_EQ(record.token_hash, hash_of_token(kToken));
    EXPECT_EQ(record.pid_namespace, 0U);
}

}  // namespace
}  // namespace mempoold
