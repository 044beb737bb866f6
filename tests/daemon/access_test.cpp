// Who may attach, inspect and administrate. Needs root, to be somebody else.
#include <gmock/gmock.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <system_error>

#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

constexpr uid_t kNobody = 65534;
constexpr gid_t kGroup = 54321;

void check(bool done) {
    if (!done) {
        throw std::system_error(errno, std::generic_category());
    }
}

class AccessTest : public testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP() << "not root";
        }
        check(::chmod(daemon_.directory().c_str(), 0755) == 0);
    }

    // The error of a request that nobody, with kGroup beside, makes; throws what the child threw.
    int ask_as_nobody(RequestKind kind) {
        int error = -1;
        std::array<int, 2> pipe{};
        check(::pipe2(pipe.data(), O_CLOEXEC) == 0);
        const mempool::shm::UniqueFd read_end{pipe[0]};
        const mempool::shm::UniqueFd write_end{pipe[1]};
        const ChildProcess child([&] {
            check(::setgroups(1, &kGroup) == 0 && ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0);
            RawClient client(daemon_.socket_path());
            const auto reply = client.ask(make_request(kind, pool_, 1));
            if (!reply) {
                throw std::runtime_error("closed");
            }
            check(::write(write_end.get(), &reply->error, sizeof(reply->error)) > 0);
        });
        check(::read(read_end.get(), &error, sizeof(error)) == sizeof(error));
        return error;
    }

    const std::string pool_ = mempool_test::unique_pool("access");
    mempool_test::DaemonProcess daemon_;
};

TEST_F(AccessTest, AStrangerMayOnlyAskWhatThereIs) {
    daemon_.start({"--pool", pool_ + ":64x64,max_slots=100"});
    EXPECT_EQ(ask_as_nobody(RequestKind::kAttach), EACCES);
    EXPECT_EQ(ask_as_nobody(RequestKind::kInspect), EACCES);
    EXPECT_EQ(ask_as_nobody(RequestKind::kGrow), EPERM);
    EXPECT_EQ(ask_as_nobody(RequestKind::kReclaim), EPERM);
    EXPECT_EQ(ask_as_nobody(RequestKind::kList), 0);
    EXPECT_EQ(ask_as_nobody(RequestKind::kStatus), 0);
}

TEST_F(AccessTest, AUserOnTheListMayAttachAndNotGrow) {
    daemon_.start({"--pool", pool_ + ":64x64,max_slots=100,allow_users=nobody"});
    EXPECT_EQ(ask_as_nobody(RequestKind::kAttach), 0);
    EXPECT_EQ(ask_as_nobody(RequestKind::kInspect), 0);
    EXPECT_EQ(ask_as_nobody(RequestKind::kGrow), EPERM);
}

TEST_F(AccessTest, ASupplementaryGroupCounts) {
    daemon_.start({"--pool", pool_ + ":64x64,allow_groups=" + std::to_string(kGroup)});
    EXPECT_EQ(ask_as_nobody(RequestKind::kAttach), 0);
}

TEST_F(AccessTest, AStarLetsEverybodyIn) {
    daemon_.start({"--pool", pool_ + ":64x64,allow_users=*"});
    EXPECT_EQ(ask_as_nobody(RequestKind::kAttach), 0);
}

TEST_F(AccessTest, TheAdminGroupMayGrowAndInspect) {
    daemon_.start(
        {"--pool", pool_ + ":64x64,max_slots=100", "--admin-group", std::to_string(kGroup)});
    EXPECT_EQ(ask_as_nobody(RequestKind::kGrow), 0);
    EXPECT_EQ(ask_as_nobody(RequestKind::kInspect), 0);
    EXPECT_EQ(ask_as_nobody(RequestKind::kAttach), EACCES);
}

}  // namespace
}  // namespace mempoold
