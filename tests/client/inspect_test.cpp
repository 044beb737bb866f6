// Inspector, find_pools() and Admin against a fake daemon.
#include "mempool/inspect.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>

#include "client/fixture.hpp"
#include "mempool/shm/depot/create.hpp"

namespace mempool_test {
namespace {

using mempool::Admin;
using mempool::Client;
using mempool::Inspector;
using mempool::PoolStatus;
using mempool::Slot;
using mempool::shm::RequestKind;

Inspector inspect(const Served& served) {
    return Inspector::open(served.pool.name(), served.daemon.options());
}

TEST(Inspector, CountsEverySlotOnce) {
    Served served({.slots = 64, .max_slots = 256});
    served.pool.grow(32);
    Client client = served.attach();
    Client other = served.attach();
    const Slot held = client.get();
    const Slot second = other.get();
    Slot passing = client.get();
    EXPECT_TRUE(passing.detach());
    const PoolStatus status = inspect(served).status();
    EXPECT_EQ(status.pool, served.pool.name());
    EXPECT_EQ(status.uuid, "12345678-0000-0000-0000-000000000000");
    EXPECT_EQ(status.slot_size, 128U);
    EXPECT_EQ(status.slots, 96U);
    EXPECT_EQ(status.max_slots, 256U);
    EXPECT_EQ(status.held, 2U);
    EXPECT_EQ(status.detached, 1U);
    EXPECT_GT(status.cached, 0U);
    EXPECT_EQ(status.free + status.cached + status.held + status.detached, status.slots);
    EXPECT_EQ(status.unknown, 0U);
    EXPECT_EQ(status.segments, 2U);
    EXPECT_EQ(status.clients, 2U);
    EXPECT_EQ(status.max_clients, 7U);
    EXPECT_EQ(status.lanes, 2U);
    EXPECT_EQ(status.gets, 3U);
    EXPECT_EQ(status.puts, 0U);
    EXPECT_EQ(status.magazine_capacity, 4U);
    EXPECT_FALSE(status.erase_on_put);
}

TEST(Inspector, ShowsWhoDetachedASlotWhileThatClientIsThere) {
    Served served;
    Client client = served.attach();
    const mempool::shm::Pool& pool = served.pool.pool();
    const mempool::Handle handle = client.get().detach();
    const auto look = [&] {
        mempool::SlotInfo found;
        inspect(served).visit_slots([&](const mempool::SlotInfo& slot) {
            found = slot;
            return slot.index != handle.index();
        });
        return found;
    };
    const mempool::SlotInfo slot = look();
    EXPECT_EQ(slot.state, "detached");
    EXPECT_EQ(slot.holder, client.id());
    EXPECT_EQ(slot.pid, pool.client(mempool::shm::ClientId{client.id()}).pid);
    // Another client has the number by now.
    pool.client(mempool::shm::ClientId{client.id()}).attached_at =
        pool.record(mempool::shm::SlotIndex{handle.index()}).time.load() + 1;
    EXPECT_EQ(look().holder, client.id());
    EXPECT_EQ(look().pid, 0U);
}

TEST(Inspector, ReckonsAgesByThePoolsClock) {
    Served served;
    Client client = served.attach();
    mempool::shm::Live& live = served.pool.pool().live();
    live.now.store(100);
    const Slot slot = client.get();
    live.now.store(160);
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto date = std::chrono::duration_cast<std::chrono::seconds>(now).count();
    inspect(served).visit_slots([&](const mempool::SlotInfo& info) {
        if (info.state == "held") {
            EXPECT_GE(info.since + 60, static_cast<std::uint64_t>(date));
            EXPECT_LE(info.since + 60, static_cast<std::uint64_t>(date) + 60);
        }
        return true;
    });
}

TEST(Inspector, CountsRefusedPutsAndFailedGets) {
    const Served served({.slots = 4, .magazine_capacity = 4, .erase_on_put = true});
    Client client = served.attach();
    const std::vector<Slot> all = get_all(client);
    EXPECT_TRUE(client.put(mempool::Handle(1, 1)));
    const PoolStatus status = inspect(served).status();
    EXPECT_EQ(status.exhausted, 1U);
    EXPECT_EQ(status.refused, 1U);
    EXPECT_TRUE(status.erase_on_put);
}

TEST(Inspector, ShowsClientsAndWhatTheyHave) {
    const Served served;
    Client client = served.attach();
    const Slot one = client.get();
    const Slot two = client.get();
    const auto clients = inspect(served).clients();
    ASSERT_EQ(clients.size(), 1U);
    EXPECT_EQ(clients[0].id, client.id());
    EXPECT_EQ(clients[0].pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(clients[0].command, "fake");
    EXPECT_EQ(clients[0].state, "active");
    EXPECT_EQ(clients[0].held, 2U);
    EXPECT_EQ(clients[0].cached, 2U);
    EXPECT_EQ(clients[0].lanes, 1U);
}

TEST(Inspector, ShowsSegments) {
    Served served({.slots = 10, .max_slots = 256});
    served.pool.grow(32);
    const auto segments = inspect(served).segments();
    ASSERT_EQ(segments.size(), 2U);
    EXPECT_EQ('/' + segments[0].object, served.pool.object(0));
    EXPECT_EQ('/' + segments[1].object, served.pool.object(1));
    EXPECT_EQ(segments[1].slots, 32U);
    EXPECT_EQ(segments[1].first_index % served.pool.pool().geometry().index_granule, 0U);
    EXPECT_EQ(segments[1].file_bytes, 8192U);
}

TEST(Inspector, VisitsSlotsUntilItIsToldToStop) {
    Served served({.slots = 10, .max_slots = 256});
    served.pool.grow(6);
    Client client = served.attach();
    Slot held = client.get();
    held.set_tag(42);
    std::vector<mempool::SlotInfo> slots;
    inspect(served).visit_slots([&](const mempool::SlotInfo& slot) {
        slots.push_back(slot);
        return true;
    });
    ASSERT_EQ(slots.size(), 16U);
    const auto found =
        std::find_if(slots.begin(), slots.end(), [&](const auto& s) { return s.state == "held"; });
    ASSERT_NE(found, slots.end());
    EXPECT_EQ(found->handle, 0U);  // nobody was given it
    EXPECT_EQ(found->offset, held.offset());
    EXPECT_EQ(found->holder, client.id());
    EXPECT_EQ(found->pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(found->tag, 42U);
    EXPECT_NE(found->since, 0U);
    const std::uint64_t handle = held.handle().value();
    inspect(served).visit_slots([&](const mempool::SlotInfo& slot) {
        EXPECT_EQ(slot.handle, slot.index == found->index ? handle : 0U);
        EXPECT_EQ(slot.state == "shown", slot.index == found->index);
        return true;
    });
    EXPECT_EQ(inspect(served).status().held, 1U);
    int visits = 0;
    inspect(served).visit_slots([&](const mempool::SlotInfo&) { return ++visits < 3; });
    EXPECT_EQ(visits, 3);
}

TEST(Inspector, FindsNothingWrongWithASoundPool) {
    const Served served;
    Client client = served.attach();
    const Slot held = client.get();
    const mempool::AuditReport report = inspect(served).audit();
    EXPECT_EQ(report.slots, 64U);
    EXPECT_GT(report.magazines, 0U);
    EXPECT_THAT(report.findings, testing::IsEmpty());
}

TEST(Inspector, NamesWhatIsWrong) {
    using mempool::shm::SlotIndex;
    const Served served;
    served.pool.pool().word(SlotIndex{3}).store(0xff);
    const Inspector inspector = inspect(served);
    const mempool::AuditReport report = inspector.audit();
    std::vector<std::string> faults;
    for (const auto& finding : report.findings) {
        faults.push_back(finding.fault);
        EXPECT_FALSE(finding.text.empty());
    }
    EXPECT_THAT(faults, testing::UnorderedElementsAre("slot-state", "magazine-item"));
    EXPECT_EQ(inspector.status().unknown, 1U);
}

TEST(Inspector, RefusesATableThatWasOverwritten) {
    const Served served;
    const Inspector inspector = inspect(served);
    served.pool.pool().segment(0).slot_count = ~0U;
    expect_error(EPROTO, "segment table", [&] { static_cast<void>(inspector.status()); });
    expect_error(EPROTO, "segment table", [&] { static_cast<void>(inspector.segments()); });
    expect_error(EPROTO, "segment table", [&] { static_cast<void>(inspector.audit()); });
}

TEST(Inspector, GetsNoDescriptorAndOpensNoObject) {
    Served served;
    served.pool.hide();
    const Inspector inspector = inspect(served);
    EXPECT_TRUE(inspector.served());
    EXPECT_EQ(inspector.note(), "");
    EXPECT_EQ(inspector.status().slots, 64U);
    EXPECT_GT(served.daemon.seen(RequestKind::kRead), 0U);
    EXPECT_EQ(served.daemon.seen(RequestKind::kSegment), 0U);
}

TEST(Inspector, LooksAgainAtEveryCall) {
    const Served served;
    Client client = served.attach();
    const Inspector inspector = inspect(served);
    EXPECT_EQ(inspector.status().held, 0U);
    const Slot slot = client.get();
    EXPECT_EQ(inspector.status().held, 1U);
}

TEST(Inspector, ReadsWhatTheIndexNamesWhereNoDaemonAnswers) {
    Served served;
    served.daemon.write_index();
    served.daemon.stop();
    const Inspector inspector = inspect(served);
    EXPECT_EQ(inspector.status().slots, 64U);
    EXPECT_FALSE(inspector.served());
    EXPECT_THAT(inspector.note(), testing::HasSubstr("mempoold is not running"));
    EXPECT_THAT(inspector.note(), testing::HasSubstr(served.daemon.socket_path() + ".d/pools"));
    EXPECT_TRUE(inspector.audit().findings.empty());
}

TEST(Inspector, ReadsNothingThatNoIndexNames) {
    Served served;
    served.daemon.stop();
    expect_error(ENOENT, "there is no index", [&] { static_cast<void>(inspect(served)); });
    served.daemon.write_index();
    ASSERT_EQ(::shm_unlink(served.pool.object(0).c_str()), 0);
    expect_error(ENOENT, "cannot be opened", [&] { static_cast<void>(inspect(served)); });
    const std::string path = "/dev/shm" + served.pool.object(0);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    expect_error(EINVAL, "cannot be opened", [&] { static_cast<void>(inspect(served)); });
    ASSERT_EQ(::unlink(path.c_str()), 0);
    std::ofstream(path) << "another file";
    expect_error(ESTALE, "cannot be opened", [&] { static_cast<void>(inspect(served)); });
}

TEST(Inspector, TrustsNoIndexThatOthersMayWrite) {
    Served served;
    served.daemon.write_index();
    served.daemon.stop();
    const std::string runtime = served.daemon.socket_path() + ".d";
    ASSERT_EQ(::chmod(runtime.c_str(), 0777), 0);
    expect_error(ENOENT, "is not trusted", [&] { static_cast<void>(inspect(served)); });
    ASSERT_EQ(::chmod(runtime.c_str(), 0755), 0);
    ASSERT_EQ(::chmod((runtime + "/pools").c_str(), 0666), 0);
    expect_error(ENOENT, "is not trusted", [&] { static_cast<void>(inspect(served)); });
}

TEST(Inspector, NeverTakesAnotherPoolForWhatTheDaemonRefuses) {
    Served served({}, [](const mempool::shm::Request& request, Answer& answer) {
        if (request.kind == RequestKind::kInspect) {
            answer.reply.error = EACCES;
        }
    });
    served.daemon.write_index();
    expect_error(EACCES, "", [&] { static_cast<void>(inspect(served)); });
}

TEST(Inspector, ADaemonThatHangsIsNotWaitedForLong) {
    std::atomic<bool> hangs{true};
    Served served(
        {}, [&](const mempool::shm::Request&, Answer& answer) { answer.silent = hangs.load(); });
    served.daemon.write_index();
    const Inspector inspector = inspect(served);
    EXPECT_FALSE(inspector.served());
    EXPECT_THAT(inspector.note(), testing::HasSubstr("does not answer"));
    EXPECT_EQ(inspector.status().slots, 64U);
    hangs.store(false);
    EXPECT_TRUE(inspect(served).served());
}

TEST(Inspector, RefusesADaemonThatPassesTooLittle) {
    Served served({}, [](const mempool::shm::Request& request, Answer& answer) {
        if (request.kind == RequestKind::kRead && answer.data.size() > 4096) {
            answer.data.resize(4096);
        }
    });
    expect_error(EPROTO, "fewer bytes", [&] { static_cast<void>(inspect(served).status()); });
}

TEST(Inspector, RefusesPoolsThatAreNotReadyOrBroken) {
    const Served served;
    expect_error(EINVAL, "name",
                 [&] { static_cast<void>(Inspector::open("../x", served.daemon.options())); });
    served.pool.pool().header().state.store(mempool::shm::PoolState::kCreating);
    expect_error(EAGAIN, "being created", [&] { static_cast<void>(inspect(served)); });
    served.pool.pool().header().magic = 5;
    expect_error(EPROTO, "magic", [&] { static_cast<void>(inspect(served)); });
    served.pool.pool().header().magic = mempool::shm::kMagic;
    served.pool.pool().header().state.store(mempool::shm::PoolState::kReady);
    served.pool.truncate(5000);
    expect_error(EPROTO, "truncated", [&] { static_cast<void>(inspect(served)); });
}

TEST(FindPools, TellsServedFromPresent) {
    FakePool served_pool;
    FakePool hidden_pool;
    FakePool stray_pool({.slots = 8, .max_slots = 100});
    stray_pool.grow(8);
    FakeDaemon daemon({&served_pool, &hidden_pool, &stray_pool},
                      [&](const mempool::shm::Request& request, Answer& answer) {
                          if (request.kind == RequestKind::kList) {
                              answer.reply.values[0] = 2;  // it serves the first two alone
                          }
                      });
    daemon.write_index();
    hidden_pool.hide();
    std::map<std::string, mempool::FoundPool> found;
    for (const auto& pool : mempool::find_pools(daemon.options())) {
        EXPECT_THAT(pool.name, testing::Not(testing::HasSubstr(".")));
        found[pool.name] = pool;
    }
    EXPECT_TRUE(found[served_pool.name()].served && found[served_pool.name()].present);
    EXPECT_TRUE(found[hidden_pool.name()].served && !found[hidden_pool.name()].present);
    EXPECT_TRUE(!found[stray_pool.name()].served && found[stray_pool.name()].present);
}

TEST(FindPools, DoesWithoutADaemon) {
    FakePool pool;
    FakeDaemon daemon({&pool});
    daemon.write_index();
    daemon.stop();
    const auto found = mempool::find_pools(daemon.options());
    ASSERT_EQ(found.size(), 1U) << "what no index names is none of this daemon's";
    EXPECT_EQ(found[0].name, pool.name());
    EXPECT_TRUE(found[0].present && !found[0].served);
}

TEST(Admin, PassesRequestsAndAnswersOn) {
    Served served;
    Admin admin = Admin::connect(served.daemon.options());
    EXPECT_EQ(admin.daemon_version(), "mempoold 9.8.7, pid 4711");
    EXPECT_EQ(admin.grow(served.pool.name(), 12), 12U);
    const mempool::ReclaimReport plain = admin.reclaim(served.pool.name());
    EXPECT_EQ(plain.slots, 5U);
    EXPECT_EQ(plain.clients, 2U);
    EXPECT_EQ(plain.detached, 0U);
    EXPECT_EQ(admin.reclaim(served.pool.name(), std::chrono::seconds{3}).detached, 7U);
    EXPECT_EQ(admin.reclaim(served.pool.name(), std::chrono::seconds{-3}).detached, 7U);
    expect_error(ENOENT, "no such pool", [&] { admin.grow("none", 1); });
    expect_error(EINVAL, "name", [&] { admin.grow("a/b", 1); });
    // A refusal leaves the connection usable, a restart makes a new one.
    EXPECT_EQ(admin.grow(served.pool.name(), 1), 1U);
    served.daemon.stop();
    expect_error(ENOENT, "not running", [&] { admin.grow(served.pool.name(), 1); });
    served.daemon.start();
    EXPECT_EQ(admin.grow(served.pool.name(), 1), 1U);
}

TEST(Admin, SaysThatNoDaemonRuns) {
    expect_error(ENOENT, "mempoold is not running",
                 [] { static_cast<void>(Admin::connect({.socket = "/nowhere/x.sock"})); });
}

}  // namespace
}  // namespace mempool_test
