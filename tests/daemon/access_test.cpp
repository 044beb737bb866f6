// Who may attach, inspect and administrate. Needs root, to be somebody else.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
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

    // Runs `work` as nobody, with kGroup beside; throws what it throws.
    static void as_nobody(const std::function<void()>& work) {
        const ChildProcess child([&] {
            check(::setgroups(1, &kGroup) == 0 && ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0);
            work();
        });
    }
    static void expect(bool holds, const std::string& what) {
        if (!holds) {
            throw std::runtime_error("not so: " + what);
        }
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

TEST_F(AccessTest, SegmentsAndLockAreClosedToOthers) {
    daemon_.start({"--pool", pool_ + ":64x64,max_slots=100,allow_users=nobody"});
    RawClient admin(daemon_.socket_path());
    ASSERT_TRUE(admin.ask(make_request(RequestKind::kGrow, pool_, 10)));
    const std::string first = mempool_test::object_of(pool_, 0);
    const std::string second = mempool_test::object_of(pool_, 1);
    ASSERT_FALSE(first.empty() || second.empty());
    as_nobody([&] {
        for (const std::string& path :
             {"/dev/shm/" + first, "/dev/shm/" + second, daemon_.socket_path() + ".d/private"}) {
            expect(::open(path.c_str(), O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES, path);
        }
    });
}

TEST_F(AccessTest, AClientOfOnePoolGetsNothingOfAnother) {
    const std::string other = mempool_test::unique_pool("other");
    daemon_.start({"--pool", pool_ + ":64x64,allow_users=nobody", "--pool", other + ":64x64"});
    as_nobody([&] {
        RawClient client(daemon_.socket_path());
        auto reply = client.ask(make_request(RequestKind::kAttach, other));
        expect(reply && reply->error == EACCES, "attach to the other");
        reply = client.ask(make_request(RequestKind::kInspect, other));
        expect(reply && reply->error == EACCES, "inspect the other");
        reply = client.ask(make_request(RequestKind::kAttach, pool_));
        expect(reply && reply->error == 0, "attach to the own");
        // A segment is one of the pool attached to, whatever the request names.
        mempool::shm::UniqueFd fd;
        reply = client.ask(make_request(RequestKind::kSegment, other, 0), &fd);
        mempool::shm::Header header{};
        expect(reply && fd && ::pread(fd.get(), &header, sizeof(header), 0) == sizeof(header) &&
                   pool_ == header.name,
               "a segment of the own");
    });
}

// Whoever may look and not attach gets bytes of the metadata, and no descriptor of any pool.
TEST_F(AccessTest, AnAdminWhoMayOnlyLookReadsAndGetsNoDescriptor) {
    daemon_.start({"--pool", pool_ + ":64x64", "--admin-group", std::to_string(kGroup)});
    as_nobody([&] {
        RawClient looker(daemon_.socket_path());
        mempool::shm::UniqueFd fd;
        auto reply = looker.ask(make_request(RequestKind::kInspect, pool_), &fd);
        expect(reply && reply->error == 0 && !fd, "inspect");
        std::string data;
        mempool::shm::Request request = make_request(RequestKind::kRead, "");
        mempool::shm::payload::put(request, mempool::shm::payload::Read{0, 4096});
        reply = looker.read(request, data);
        mempool::shm::Header header{};
        expect(reply && reply->error == 0 && data.size() == sizeof(header), "read");
        std::memcpy(static_cast<void*>(&header), data.data(), sizeof(header));
        expect(pool_ == header.name, "the header");
        expect(!looker.ask(make_request(RequestKind::kSegment, "", 0), &fd) && !fd, "segment");
    });
}

}  // namespace
}  // namespace mempoold
