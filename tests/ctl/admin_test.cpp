// The commands that change a pool.
#include <gmock/gmock.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mempool/client.hpp>

#include "run_ctl.hpp"

namespace mempool_test {
namespace {

using ::testing::HasSubstr;

class CtlAdmin : public CtlTest {};

TEST_F(CtlAdmin, GrowAddsSlotsUpToTheMaximum) {
    const Json grown = ctl_json({"grow", pool_, "64"});
    EXPECT_EQ(grown["requested"], 64);
    const auto added = grown["added"].get<std::uint64_t>();
    EXPECT_GE(added, 64);
    Json s = status();
    EXPECT_EQ(s["slots"], 64 + added);
    EXPECT_EQ(s["free"], 64 + added);
    EXPECT_EQ(s["segments"], 2);
    EXPECT_EQ(s["grown"], 1);
    const Json segments = ctl_json({"segments", pool_})["segments"];
    ASSERT_EQ(segments.size(), 2);
    EXPECT_EQ(segments[1]["slots"], added);

    EXPECT_EQ(ctl({"grow", pool_, "100000"}).status, 0);
    EXPECT_EQ(status()["slots"], 256);
}

TEST_F(CtlAdmin, GrowBeyondTheMaximumIsABadAnswer) {
    ASSERT_EQ(ctl({"grow", pool_, "192"}).status, 0);
    const Json answer = ctl_json({"grow", pool_, "1"}, 1);
    EXPECT_EQ(answer["added"], 0);
    EXPECT_THAT(answer["problem"].get<std::string>(), HasSubstr("max_slots"));
    const Finished finished = ctl({"grow", pool_, "1"});
    EXPECT_EQ(finished.status, 1);
    EXPECT_THAT(finished.err, HasSubstr("is at max_slots\n"));
}

TEST_F(CtlAdmin, ReclaimFreesDetachedSlotsOnlyWhenTold) {
    mempool::Client client = mempool::Client::attach(pool_, {.socket = daemon_.socket_path()});
    ASSERT_TRUE(client.get().detach());
    EXPECT_EQ(ctl_json({"reclaim", pool_})["detached"], 0);
    EXPECT_EQ(ctl_json({"reclaim", pool_, "--detached-older-than", "3600"})["detached"], 0);
    EXPECT_EQ(status()["detached"], 1);
    eventually([&] {
        return ctl_json({"reclaim", pool_, "--detached-older-than", "0"})["detached"] == 1;
    });
    EXPECT_EQ(status()["detached"], 0);
}

TEST_F(CtlAdmin, AClientIsEndedOnlyWhenSomebodySaysYes) {
    mempool::Client client = mempool::Client::attach(pool_, {.socket = daemon_.socket_path()});
    const mempool::Slot slot = client.get();
    const std::string id = std::to_string(client.id());
    const Finished unasked = ctl({"reclaim", pool_, "--client", id});
    EXPECT_EQ(unasked.status, 2);
    EXPECT_THAT(unasked.err, HasSubstr("holds 1 slot"));
    EXPECT_THAT(unasked.err, HasSubstr("--kill ends it"));
    EXPECT_THAT(unasked.err, HasSubstr("--yes"));
    EXPECT_EQ(ctl_json({"clients", pool_})["clients"][0]["state"], "active");
    const Json ended = ctl_json({"reclaim", pool_, "--client", id, "--yes"});
    EXPECT_EQ(ended["left"], 1);
    EXPECT_EQ(ended["alive"], true);
    EXPECT_EQ(ctl_json({"clients", pool_})["clients"][0]["state"], "ended");
}

TEST_F(CtlAdmin, TheOptionsOfAnEndNeedAClient) {
    for (const char* option : {"--kill", "--force", "--yes"}) {
        EXPECT_EQ(ctl({"reclaim", pool_, option}).status, 2) << option;
    }
    EXPECT_EQ(ctl({"reclaim", pool_, "--client", "1", "--kill", "--force"}).status, 2);
    EXPECT_EQ(ctl({"reclaim", pool_, "--client", "77", "--yes"}).status, 3);
}

TEST_F(CtlAdmin, WithoutTheDaemonItIsNotFound) {
    daemon_.kill9();
    const Finished grow = ctl({"grow", pool_, "1"});
    EXPECT_EQ(grow.status, 3);
    EXPECT_THAT(grow.err, HasSubstr(daemon_.socket_path()));
    EXPECT_EQ(ctl({"reclaim", pool_}).status, 3);
}

TEST_F(CtlAdmin, AnUnknownPoolIsNotFound) {
    for (const char* command : {"status", "clients", "segments", "slots", "audit", "reclaim"}) {
        const Finished finished = ctl({command, "no-such-pool"});
        EXPECT_EQ(finished.status, 3) << command << finished.err;
        EXPECT_THAT(finished.err, HasSubstr("no-such-pool")) << command;
        const std::string why = "No such file";
        EXPECT_THAT(finished.err, HasSubstr(why));
        EXPECT_EQ(finished.err.find(why), finished.err.rfind(why)) << finished.err;
        EXPECT_EQ(finished.out, "") << command;
    }
    EXPECT_EQ(ctl({"grow", "no-such-pool", "1"}).status, 3);
    daemon_.kill9();
    EXPECT_EQ(ctl({"status", "no-such-pool"}).status, 3);
}

TEST_F(CtlAdmin, AnotherUserIsNotAllowed) {
    const passwd* const nobody = ::getpwnam("nobody");
    if (::getuid() != 0 || nobody == nullptr) {
        GTEST_SKIP() << "needs root, to be somebody else";
    }
    ASSERT_EQ(::chmod(daemon_.directory().c_str(), 0755), 0);
    const CtlOptions as_nobody{.uid = nobody->pw_uid};
    if (run_ctl({"--version"}, as_nobody).status != 0) {
        GTEST_SKIP() << "nobody cannot reach " MEMPOOLCTL_PATH;
    }
    const Finished grow = ctl({"grow", pool_, "1"}, as_nobody);
    EXPECT_EQ(grow.status, 4) << grow.err;
    EXPECT_EQ(ctl({"reclaim", pool_}, as_nobody).status, 4);
    EXPECT_EQ(ctl({"audit", pool_, "--repair"}, as_nobody).status, 4);
    EXPECT_EQ(status()["slots"], 64);
}

}  // namespace
}  // namespace mempool_test
