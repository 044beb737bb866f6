// The commands that only look: what they say with the daemon up, and with it down.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <mempool/client.hpp>

#include "run_ctl.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CtlInspect : public CtlTest {
protected:
    [[nodiscard]] mempool::Client attach() const {
        return mempool::Client::attach(pool_, {.socket = daemon_.socket_path()});
    }
    static std::uint64_t sum(const Json& s) {
        return s["free"].get<std::uint64_t>() + s["cached"].get<std::uint64_t>() +
               s["held"].get<std::uint64_t>() + s["detached"].get<std::uint64_t>();
    }
    [[nodiscard]] Json entry_of(const Json& list, const char* key) const {
        const auto found = std::find_if(list.begin(), list.end(),
                                        [&](const Json& entry) { return entry[key] == pool_; });
        EXPECT_NE(found, list.end()) << list;
        return found == list.end() ? Json() : *found;
    }
};

TEST_F(CtlInspect, StatusHasTheDocumentedNumbers) {
    const Json s = status();
    for (const char* key : {"slot_size",
                            "slot_stride",
                            "slots",
                            "max_slots",
                            "free",
                            "cached",
                            "held",
                            "detached",
                            "unknown",
                            "segments",
                            "clients",
                            "max_clients",
                            "lanes",
                            "waiters",
                            "gets",
                            "puts",
                            "exhausted",
                            "refused",
                            "reclaimed",
                            "deaths",
                            "grown",
                            "grow_failures",
                            "magazine_capacity",
                            "quota",
                            "metadata_bytes",
                            "created_at",
                            "daemon_pid",
                            "daemon_starts"}) {
        EXPECT_TRUE(s.contains(key) && s[key].is_number_unsigned()) << key;
    }
    EXPECT_EQ(s["pool"], pool_);
    EXPECT_EQ(s["uuid"].get<std::string>().size(), 36);
    EXPECT_EQ(s["served"], true);
    EXPECT_EQ(s["erase_on_put"], false);
    EXPECT_EQ(s["slot_size"], 4096);
    EXPECT_EQ(s["slots"], 64);
    EXPECT_EQ(s["max_slots"], 256);
    EXPECT_EQ(s["daemon_pid"], daemon_.pid());
    EXPECT_EQ(sum(s), 64);
}

TEST_F(CtlInspect, StatusCountsEverySlotOnce) {
    mempool::Client client = attach();
    std::vector<mempool::Slot> slots(5);
    ASSERT_EQ(client.get_bulk(slots), 5);
    ASSERT_TRUE(slots[0].detach());
    ASSERT_TRUE(slots[1].detach());
    const Json s = status();
    EXPECT_EQ(s["held"], 3);
    EXPECT_EQ(s["detached"], 2);
    EXPECT_EQ(s["clients"], 1);
    EXPECT_EQ(s["gets"], 5);
    EXPECT_EQ(sum(s), s["slots"]);
}

TEST_F(CtlInspect, StatusTableIsForPeople) {
    const Finished finished = ctl({"status", pool_});
    EXPECT_EQ(finished.status, 0);
    EXPECT_THAT(finished.out, HasSubstr("slot size     4KiB"));
    EXPECT_THAT(finished.out, HasSubstr("slots         64 of at most 256, in 1 segment\n"));
    EXPECT_THAT(finished.out, HasSubstr("daemon        running, pid"));
    EXPECT_EQ(finished.err, "");
}

TEST_F(CtlInspect, StatusWithoutAPoolShowsAll) {
    const Finished table = ctl({"status"});
    EXPECT_THAT(table.out, AllOf(HasSubstr("POOL"), HasSubstr(pool_)));
    const Json all = ctl_json({"status"});
    EXPECT_THAT(all["daemon"].get<std::string>(),
                HasSubstr("pid " + std::to_string(daemon_.pid())));
    EXPECT_EQ(entry_of(all["pools"], "pool")["slots"], 64);
}

TEST_F(CtlInspect, ListNamesThePool) {
    EXPECT_THAT(ctl({"list"}).out, HasSubstr(pool_));
    const Json entry = entry_of(ctl_json({"list"})["pools"], "pool");
    EXPECT_EQ(entry["served"], true);
    EXPECT_EQ(entry["present"], true);
}

TEST_F(CtlInspect, ListNamesWhatWasSetAsideAndWhy) {
    EXPECT_EQ(ctl_json({"list"})["aside"], Json::array());
    daemon_.kill9();
    const std::string object = "/dev/shm/" + mempool_test::object_of(pool_, 0);
    std::filesystem::resize_file(object, 4096);
    daemon_.restart();
    const Json aside = ctl_json({"list"})["aside"];
    ASSERT_EQ(aside.size(), 1);
    const auto name = aside[0]["object"].get<std::string>();
    EXPECT_THAT(name, HasSubstr(pool_ + ".aside-"));
    EXPECT_NE(aside[0]["reason"].get<std::string>(), "");
    EXPECT_THAT(ctl({"list"}).err, HasSubstr("/dev/shm" + name + " was set aside: "));
    std::filesystem::remove("/dev/shm" + name);
    EXPECT_EQ(ctl({"list"}).err, "") << "there is nothing left to be done";
}

TEST_F(CtlInspect, AFormerPoolThatIsInUseIsListedAsNotServed) {
    const mempool::Client client = attach();
    daemon_.kill9();
    make_former(pool_, daemon_.socket_path() + ".d");
    const std::string other = unique_pool("ctl");
    daemon_.start({"--pool", pool_ + ":4KiBx64", "--pool", other + ":4KiBx64"});
    const Json entry = entry_of(ctl_json({"list"})["pools"], "pool");
    EXPECT_EQ(entry["served"], false);
    EXPECT_EQ(entry["present"], true);
    EXPECT_EQ(ctl_json({"list"})["aside"], Json::array());
    EXPECT_THAT(ctl({"status"}).out, HasSubstr(other));
    EXPECT_THAT(ctl({"status", pool_}).err, HasSubstr("mempoold serves no pool '" + pool_ + "'"));
}

TEST_F(CtlInspect, ClientsShowsWhoHasWhat) {
    EXPECT_EQ(ctl_json({"clients", pool_})["clients"], Json::array());
    mempool::Client client = attach();
    const mempool::Slot slot = client.get();
    const Json clients = ctl_json({"clients", pool_})["clients"];
    ASSERT_EQ(clients.size(), 1);
    EXPECT_EQ(clients[0]["id"], client.id());
    EXPECT_EQ(clients[0]["quota"], 0);
    EXPECT_THAT(ctl({"clients", pool_}).out, HasSubstr("  HELD  QUOTA  CACHED"));
    EXPECT_EQ(clients[0]["pid"], ::getpid());
    EXPECT_EQ(clients[0]["uid"], ::getuid());
    EXPECT_EQ(clients[0]["state"], "active");
    EXPECT_EQ(clients[0]["held"], 1);
    EXPECT_GT(clients[0]["attached_at"], 0);
    EXPECT_THAT(ctl({"clients", pool_}).out, HasSubstr(clients[0]["user"].get<std::string>()));
}

TEST_F(CtlInspect, SlotsShowsHolderTagAndHandle) {
    mempool::Client client = attach();
    mempool::Slot slot = client.get();
    slot.set_tag(77);
    const Json slots = ctl_json({"slots", pool_, "--state", "held"})["slots"];
    ASSERT_EQ(slots.size(), 1);
    EXPECT_EQ(slots[0]["client"], client.id());
    EXPECT_EQ(slots[0]["pid"], ::getpid());
    EXPECT_EQ(slots[0]["tag"], 77);
    EXPECT_EQ(slots[0]["offset"], slot.offset());
    EXPECT_TRUE(slots[0]["handle"].is_null());  // nobody was given it
    const mempool::Handle handle = slot.handle();
    EXPECT_EQ(slots[0]["index"], handle.index());
    EXPECT_EQ(slots[0]["generation"], handle.generation());
    EXPECT_THAT(ctl({"slots", pool_, "--state", "held"}).out, HasSubstr(" 77 "));
    const Json shown = ctl_json({"slots", pool_, "--state", "shown"})["slots"];
    ASSERT_EQ(shown.size(), 1);
    EXPECT_EQ(shown[0]["state"], "shown");
    EXPECT_EQ(shown[0]["client"], client.id());
    EXPECT_EQ(std::stoull(shown[0]["handle"].get<std::string>(), nullptr, 16), handle.value());
}

TEST_F(CtlInspect, SlotsAreFilteredAndLimited) {
    mempool::Client client = attach();
    std::vector<mempool::Slot> slots(5);
    ASSERT_EQ(client.get_bulk(slots), 5);
    ASSERT_TRUE(slots[0].detach());
    ASSERT_TRUE(slots[1].handle());
    const std::string id = std::to_string(client.id());
    const auto count = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {"slots", pool_});
        return ctl_json(std::move(arguments))["slots"].size();
    };
    EXPECT_EQ(count({}), 64);
    EXPECT_EQ(count({"--limit", "7"}), 7);
    EXPECT_EQ(count({"--state", "held"}), 4);  // as status counts them
    EXPECT_EQ(count({"--state", "shown"}), 1);
    EXPECT_EQ(count({"--state", "detached"}), 1);
    EXPECT_EQ(count({"--state", "unknown"}), 0);
    EXPECT_EQ(count({"--client", id}), 4);
    EXPECT_EQ(count({"--client", id, "--limit", "2"}), 2);
    EXPECT_EQ(count({"--client", id, "--state", "free"}), 0);
    EXPECT_EQ(count({"--state", "free"}) + count({"--state", "cached"}), 59);
}

TEST_F(CtlInspect, SlotsOfAClientThatIsNoneSaySo) {
    const mempool::Client client = attach();
    const std::string id = std::to_string(client.id());
    EXPECT_EQ(ctl({"slots", pool_, "--client", id}).err, "");
    const Finished finished = ctl({"slots", pool_, "--client", "99999"});
    EXPECT_EQ(finished.status, 0);
    EXPECT_THAT(finished.err, HasSubstr("no client 99999 is attached to '" + pool_ + "'"));
}

TEST_F(CtlInspect, SegmentsNamesTheObject) {
    const Json segments = ctl_json({"segments", pool_})["segments"];
    ASSERT_EQ(segments.size(), 1);
    EXPECT_EQ(segments[0]["number"], 0);
    EXPECT_EQ(segments[0]["slots"], 64);
    EXPECT_THAT(segments[0]["object"].get<std::string>(), HasSubstr("mempool." + pool_));
    EXPECT_GE(segments[0]["file_bytes"], 64 * 4096);
}

TEST_F(CtlInspect, AuditOfASoundPoolIsClean) {
    const Json report = ctl_json({"audit", pool_});
    EXPECT_EQ(report["clean"], true);
    EXPECT_EQ(report["slots"], 64);
    EXPECT_EQ(report["findings"], Json::array());
    EXPECT_THAT(ctl({"audit", pool_}).out, HasSubstr("clean, 64 slots"));
}

TEST_F(CtlInspect, EverythingToReadWorksWithoutTheDaemon) {
    mempool::Client client = attach();
    const mempool::Slot slot = client.get();
    daemon_.kill9();
    const Json s = status();
    EXPECT_EQ(s["served"], false);
    EXPECT_EQ(s["held"], 1);
    EXPECT_EQ(sum(s), 64);
    EXPECT_EQ(ctl_json({"clients", pool_})["clients"].size(), 1);
    EXPECT_EQ(ctl_json({"segments", pool_})["segments"].size(), 1);
    EXPECT_EQ(ctl_json({"slots", pool_})["slots"].size(), 64);
    EXPECT_EQ(ctl_json({"audit", pool_})["clean"], true);
    EXPECT_EQ(entry_of(ctl_json({"list"})["pools"], "pool")["served"], false);
    EXPECT_TRUE(ctl_json({"list"})["daemon"].is_null());
}

TEST_F(CtlInspect, TablesSayThatTheDaemonIsNotRunning) {
    daemon_.kill9();
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"list"},
                                               {"status"},
                                               {"clients", pool_},
                                               {"segments", pool_},
                                               {"slots", pool_},
                                               {"audit", pool_}}) {
        const Finished finished = ctl(arguments);
        EXPECT_EQ(finished.status, 0) << arguments[0];
        EXPECT_THAT(finished.err, HasSubstr("mempoold is not running")) << arguments[0];
    }
    EXPECT_THAT(ctl({"status", pool_}).out,
                HasSubstr("daemon        none answers for this pool now"));
}

TEST_F(CtlInspect, WithoutTheDaemonItIsSaidWhatIsTrusted) {
    daemon_.kill9();
    EXPECT_THAT(ctl({"status", pool_}).err,
                AllOf(HasSubstr(daemon_.socket_path() + ".d/pools"),
                      HasSubstr("belongs to uid " + std::to_string(::getuid()))));
}

TEST_F(CtlInspect, WhatAHangingDaemonServesIsShownWithoutIt) {
    daemon_.stop();
    EXPECT_EQ(status()["slots"], 64);
    const Json all = ctl_json({"status"});
    EXPECT_TRUE(all["daemon"].is_null());
    EXPECT_EQ(entry_of(all["pools"], "pool")["served"], false);
    const Finished list = ctl({"list"});
    EXPECT_THAT(list.err, HasSubstr("does not answer"));
    EXPECT_THAT(list.out, HasSubstr(pool_));
    EXPECT_EQ(ctl({"grow", pool_, "64"}).status, 3);
    daemon_.cont();
    EXPECT_EQ(status()["served"], true);
}

TEST_F(CtlInspect, StatusNamesAPlainNameThatSomebodyElseHas) {
    EXPECT_EQ(status()["names"], "");
    const std::string plain = "/dev/shm/mempool." + pool_;
    ASSERT_EQ(::unlink(plain.c_str()), 0);
    ASSERT_EQ(::mkfifo(plain.c_str(), 0600), 0);
    eventually([&] { return status()["names"] != "" || ::access(plain.c_str(), F_OK) != 0; });
    EXPECT_THAT(status()["names"].get<std::string>(), HasSubstr(plain + " belongs to uid"));
    EXPECT_THAT(ctl({"status", pool_}).out, HasSubstr("names         " + plain));
}

}  // namespace
}  // namespace mempool_test
