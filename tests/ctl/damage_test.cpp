// Pools that somebody wrote over: told, never crashed on.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <mempool/client.hpp>
#include <string>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/unique_fd.hpp"
#include "run_ctl.hpp"

namespace mempool_test {
namespace {

using mempool::shm::UniqueFd;
using ::testing::HasSubstr;

class CtlDamage : public CtlTest {
protected:
    void SetUp() override {
        CtlTest::SetUp();
        daemon_.kill9();  // it must not mend what is broken here, unless told to
        object_ = UniqueFd(::open(("/dev/shm/" + object_of(pool_, 0)).c_str(), O_RDWR | O_CLOEXEC));
        ASSERT_TRUE(object_);
        ASSERT_EQ(::pread(object_.get(), &geometry_, sizeof geometry_,
                          offsetof(mempool::shm::Header, geometry)),
                  sizeof geometry_);
    }
    void write(std::uint64_t offset, std::uint64_t value) const {
        ASSERT_EQ(::pwrite(object_.get(), &value, sizeof value, static_cast<off_t>(offset)),
                  sizeof value);
    }
    // No command may end by a signal.
    void expect_no_crash() const {
        for (const char* command : {"status", "clients", "segments", "slots", "audit"}) {
            EXPECT_LT(ctl({command, pool_}).status, 6) << command;
        }
        EXPECT_LT(ctl({"list"}).status, 6);
        EXPECT_LT(ctl({"status"}).status, 6);
    }

    UniqueFd object_;
    mempool::shm::Geometry geometry_;
};

TEST_F(CtlDamage, AuditNamesTheSlotWithASenselessWord) {
    write(geometry_.records_offset + 3 * sizeof(mempool::shm::SlotRecord), 0xff);
    const Json report = ctl_json({"audit", pool_}, 1);
    EXPECT_EQ(report["clean"], false);
    EXPECT_TRUE(
        std::any_of(report["findings"].begin(), report["findings"].end(),
                    [](const Json& f) { return f["fault"] == "slot-state" && f["where"] == 3; }))
        << report;
    const Finished table = ctl({"audit", pool_});
    EXPECT_EQ(table.status, 1);
    EXPECT_THAT(table.out, HasSubstr("slot 3 is in no known state"));
    EXPECT_EQ(status()["unknown"], 1);
    EXPECT_EQ(ctl_json({"slots", pool_, "--state", "unknown"})["slots"].size(), 1);
}

TEST_F(CtlDamage, RepairSaysWhatItMendedByKindAndNumber) {
    daemon_.restart();
    using mempool::shm::ClientId;
    using mempool::shm::Generation;
    using mempool::shm::SlotWord;
    // Three slots of a client that nobody is, one that makes no sense while nobody is attached.
    for (const unsigned slot : {3U, 4U, 5U}) {
        write(geometry_.records_offset + slot * sizeof(mempool::shm::SlotRecord),
              SlotWord::held(Generation{7}, ClientId{9}).bits);
    }
    write(geometry_.records_offset + 9 * sizeof(mempool::shm::SlotRecord), 0xff);
    const Json answer = ctl_json({"audit", pool_, "--repair"});
    EXPECT_EQ(answer["clean"], true);
    EXPECT_EQ(answer["repaired"]["clients"], 0);
    const Json& mended = answer["repaired"]["mended"];
    const auto has = [&](const char* fault, int count) {
        return std::find(mended.begin(), mended.end(), Json{{"fault", fault}, {"count", count}}) !=
               mended.end();
    };
    EXPECT_TRUE(has("slot-holder", 3)) << mended;
    EXPECT_TRUE(has("slot-state", 1)) << mended;
    EXPECT_EQ(status()["free"], 64);
    const Finished again = ctl({"audit", pool_, "--repair"});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_THAT(again.out, HasSubstr(pool_ + ": nothing mended\n" + pool_ + ": clean"));
}

TEST_F(CtlDamage, RepairLeavesWhatALiveClientMayHold) {
    daemon_.restart();
    const mempool::Client client =
        mempool::Client::attach(pool_, {.socket = daemon_.socket_path()});
    write(geometry_.records_offset + 9 * sizeof(mempool::shm::SlotRecord), 0xff);
    const Json answer = ctl_json({"audit", pool_, "--repair"}, 1);
    EXPECT_EQ(answer["repaired"]["clients"], 1);
    EXPECT_EQ(answer["repaired"]["mended"].size(), 1) << "the magazine that lists it";
    ASSERT_EQ(answer["findings"].size(), 1);
    EXPECT_EQ(answer["findings"][0]["fault"], "slot-state");
    const Finished table = ctl({"audit", pool_, "--repair"});
    EXPECT_EQ(table.status, 1);
    EXPECT_THAT(table.err, HasSubstr("may be in use by one of 1 attached client"));
}

TEST_F(CtlDamage, WithoutTheDaemonRepairSaysWhoDoesIt) {
    const Finished finished = ctl({"audit", pool_, "--repair"});
    EXPECT_EQ(finished.status, 3);
    EXPECT_EQ(finished.out, "");
    EXPECT_THAT(finished.err, HasSubstr("mempoold repairs pools, and it can't be reached"));
}

TEST_F(CtlDamage, WordsOfAllOnesAreNoTrap) {
    for (std::uint64_t at = geometry_.clients_offset; at < geometry_.slots_offset; at += 8) {
        write(at, ~std::uint64_t{0});
    }
    expect_no_crash();
    EXPECT_EQ(ctl({"audit", pool_}).status, 1);
}

TEST_F(CtlDamage, ASenselessSegmentTableIsNoTrap) {
    for (std::uint64_t at = mempool::shm::kPage; at < geometry_.clients_offset; at += 8) {
        write(at, ~std::uint64_t{0});
    }
    expect_no_crash();
}

TEST_F(CtlDamage, ASenselessHeaderIsRefused) {
    write(0, 0);
    const Finished finished = ctl({"status", pool_});
    EXPECT_EQ(finished.status, 5) << finished.err;
    EXPECT_EQ(finished.out, "");
    expect_no_crash();
}

TEST_F(CtlDamage, AnEmptyObjectIsRefused) {
    ASSERT_EQ(::ftruncate(object_.get(), 0), 0);
    const Finished finished = ctl({"status", pool_});
    EXPECT_EQ(finished.status, 5) << finished.err;
    expect_no_crash();
}

TEST_F(CtlDamage, AnObjectThatIsTruncatedWhileItIsShownIsShownToTheEnd) {
    // More slots than fit into a pipe and a buffer of a page each.
    daemon_.restart();
    ASSERT_EQ(ctl({"grow", pool_, "192"}).status, 0);
    daemon_.kill9();
    const Finished finished =
        ctl({"slots", pool_}, {.out = Stdout::kSlowPipe,
                               .meanwhile = [&] { EXPECT_EQ(::ftruncate(object_.get(), 0), 0); }});
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_EQ(std::count(finished.out.begin(), finished.out.end(), '\n'), 257);
}

TEST_F(CtlDamage, ATruncatedObjectIsRefused) {
    ASSERT_EQ(::ftruncate(object_.get(), static_cast<off_t>(geometry_.records_offset)), 0);
    const Finished finished = ctl({"status", pool_});
    EXPECT_EQ(finished.status, 5) << finished.err;
    expect_no_crash();
}

}  // namespace
}  // namespace mempool_test
