// What one user may take, and that others are served meanwhile. Needs root, to be several users.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using testing::HasSubstr;

constexpr uid_t kGreedy = 65534;
constexpr uid_t kModest = 54321;

void expect(bool holds, const std::string& what) {
    if (!holds) {
        throw std::runtime_error("not so: " + what);
    }
}

void become(uid_t uid) { expect(::setgid(uid) == 0 && ::setuid(uid) == 0, "setuid"); }

class LimitsTest : public testing::Test {
protected:
    std::string socket() const { return daemon_.socket_path(); }

    const std::string pool_ = mempool_test::unique_pool("limits");
    mempool_test::DaemonProcess daemon_;
};

/// Where the test has to be several users.
class UsersLimitsTest : public LimitsTest {
protected:
    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP() << "not root";
        }
        ASSERT_EQ(::chmod(daemon_.directory().c_str(), 0755), 0);
    }
};

TEST_F(LimitsTest, OneMoreClientOfAUserIsRefusedByTheLimitsName) {
    daemon_.start({"--pool", pool_ + ":64x64,max_clients_per_user=2"});
    const PoolClient first(socket(), pool_);
    auto second = std::make_unique<PoolClient>(socket(), pool_);
    RawClient third(socket());
    auto reply = third.ask(make_request(RequestKind::kAttach, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EUSERS);
    EXPECT_THAT(std::string(shm::text_of(reply->text)), HasSubstr("raise max_clients_per_user"));
    EXPECT_EQ(second->connection().send(make_goodbye(*second)), 0);
    EXPECT_TRUE(second->connection().is_closed());
    reply = third.ask(make_request(RequestKind::kAttach, pool_));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, 0);
}

TEST_F(UsersLimitsTest, TheClientsOfOneUserDoNotCountForAnother) {
    daemon_.start({"--pool", pool_ + ":64x64,max_clients_per_user=1,allow_users=*"});
    const PoolClient roots(socket(), pool_);
    for (const uid_t uid : {kGreedy, kModest}) {
        const ChildProcess child([&] {
            become(uid);
            const PoolClient own(socket(), pool_);
            RawClient another(socket());
            const auto reply = another.ask(make_request(RequestKind::kAttach, pool_));
            expect(reply && reply->error == EUSERS, "a second of one user is refused");
        });
    }
}

TEST_F(UsersLimitsTest, AFloodOfConnectionsByOneUserLeavesOthersServed) {
    daemon_.start({"--pool", pool_ + ":64x64,allow_users=*", "--max-connections-per-user", "20"});
    const ChildProcess flood([&] {
        become(kGreedy);
        auto* kept = new std::vector<std::unique_ptr<RawClient>>;  // leaked: they stay open
        for (int k = 0; k < 500; ++k) {
            kept->push_back(std::make_unique<RawClient>(socket()));
        }
        int served = 0;
        for (const auto& client : *kept) {
            const auto reply = client->ask(make_request(RequestKind::kStatus));
            served += reply && reply->error == 0 ? 1 : 0;
        }
        expect(served == 20, std::to_string(served) + " of 500 are served, not 20");
        // Whoever listens instead of asking is told why.
        RawClient listener(socket());
        const auto reply = listener.receive();
        expect(reply && reply->error == EUSERS, "EUSERS");
        expect(std::string(shm::text_of(reply->text)).find("max_connections_per_user") !=
                   std::string::npos,
               "the limit is named");
    });
    const ChildProcess modest([&] {
        become(kModest);
        PoolClient client(socket(), pool_);
        expect(client.get(5) == 5, "slots for another user");
    });
    const PoolClient roots(socket(), pool_);
    EXPECT_THAT(daemon_.log(), HasSubstr("is at its limit of 20 connections to mempoold"));
}

TEST_F(UsersLimitsTest, UsersWhoActTogetherLeaveConnectionsForOthers) {
    daemon_.start({"--pool", pool_ + ":64x64,allow_users=*", "--max-connections-per-user", "1000"});
    const rlimit descriptors{512, 512};
    ASSERT_EQ(::prlimit(daemon_.pid(), RLIMIT_NOFILE, &descriptors, nullptr), 0);
    std::vector<std::unique_ptr<ChildProcess>> floods;
    for (uid_t accomplice = 0; accomplice < 4; ++accomplice) {
        floods.push_back(std::make_unique<ChildProcess>([&] {
            become(kGreedy - accomplice);
            auto* kept = new std::vector<std::unique_ptr<RawClient>>;  // leaked: they stay open
            bool served = true;
            while (served) {
                kept->push_back(std::make_unique<RawClient>(socket()));
                const auto reply = kept->back()->ask(make_request(RequestKind::kStatus));
                served = reply && reply->error == 0;
            }
            expect(kept->size() > 5, "some connections for each");
            RawClient listener(socket());
            const auto reply = listener.receive();
            const std::string text = reply ? std::string(shm::text_of(reply->text)) : "no answer";
            expect(text.find("are kept for others") != std::string::npos, text);
        }));
    }
    const ChildProcess modest([&] {
        become(kModest);
        PoolClient client(socket(), pool_);
        expect(client.get(5) == 5, "slots for another user");
    });
    const PoolClient roots(socket(), pool_);
}

TEST_F(UsersLimitsTest, AUserMayConnectAgainOnceItsConnectionsAreClosed) {
    daemon_.start({"--pool", pool_ + ":64x64", "--max-connections-per-user", "1"});
    const ChildProcess child([&] {
        become(kGreedy);
        for (int k = 0; k < 10; ++k) {
            RawClient client(socket());
            // The end of the last connection may be seen after this one's beginning.
            expect(eventually([&] {
                       const auto reply = client.ask(make_request(RequestKind::kStatus));
                       if (reply && reply->error == 0) {
                           return true;
                       }
                       client = RawClient(socket());
                       return false;
                   }),
                   "a new connection");
        }
    });
}

}  // namespace
}  // namespace mempoold
