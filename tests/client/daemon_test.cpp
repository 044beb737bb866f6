// The library against the real daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "mempool/client.hpp"
#include "mempool/inspect.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Inspector;
using mempool::PoolStatus;
using mempool::Slot;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

class RealDaemon : public testing::Test {
protected:
    void start(const std::string& shape) { daemon_.start({"--pool", pool_ + ":" + shape}); }

    [[nodiscard]] mempool::AttachOptions options() const {
        return {.socket = daemon_.socket_path(), .timeout = std::chrono::seconds{30}};
    }
    [[nodiscard]] Client attach() const { return Client::attach(pool_, options()); }
    [[nodiscard]] PoolStatus status() const { return Inspector::open(pool_, options()).status(); }

    /// Waits until `done(status())`.
    template <typename Done>
    void wait_until(Done done) const {
        while (!done(status())) {
            std::this_thread::sleep_for(milliseconds{2});
        }
    }

    DaemonProcess daemon_;
    std::string pool_ = unique_pool("real");
};

std::vector<Slot> get_all(Client& client) {
    std::vector<Slot> slots;
    while (auto slot = client.get()) {
        slots.push_back(std::move(slot));
    }
    return slots;
}

TEST_F(RealDaemon, ServesGetAndPut) {
    start("1KiBx100");
    {
        Client client = attach();
        EXPECT_EQ(client.slot_size(), 1024U);
        std::vector<Slot> slots = get_all(client);
        EXPECT_EQ(slots.size(), 100U);
        EXPECT_EQ(status().held, 100U);
        EXPECT_EQ(status().clients, 1U);
        slots.clear();
        EXPECT_EQ(status().held, 0U);
    }
    wait_until([](const PoolStatus& s) { return s.clients == 0 && s.free == 100; });
    EXPECT_THAT(Inspector::open(pool_, options()).audit().findings, testing::IsEmpty());
}

TEST_F(RealDaemon, NamesThePoolItDoesNotServe) {
    start("64x10");
    try {
        static_cast<void>(Client::attach("no-such-pool", options()));
        FAIL();
    } catch (const mempool::Error& e) {
        EXPECT_EQ(e.code().value(), ENOENT);
        EXPECT_THAT(e.reason(), testing::HasSubstr("no-such-pool"));
        EXPECT_EQ(e.reason() + ": " + e.code().message(), e.what());
    }
}

TEST_F(RealDaemon, GrowsForAClientThatWaits) {
    start("64x64,max_slots=1024,grow_factor=2");
    Client client = attach();
    std::vector<Slot> slots;
    while (slots.size() < 1024) {
        Slot slot = client.get_for(nanoseconds::max());
        ASSERT_TRUE(slot);
        slot.data()[63] = std::byte{1};
        slots.push_back(std::move(slot));
    }
    std::error_code error;
    EXPECT_FALSE(client.get_for(milliseconds{5}, error));
    EXPECT_EQ(error, Errc::kTimedOut);
    EXPECT_EQ(status().slots, 1024U);
    EXPECT_GT(status().segments, 1U);
}

TEST_F(RealDaemon, WakesAWaiterWhenAnotherProcessReturns) {
    start("64x1");
    Client client = attach();
    Slot only = client.get();
    ASSERT_TRUE(only);
    const pid_t child = ::fork();
    if (child == 0) {
        Client mine = attach();
        ::_exit(mine.get_for(nanoseconds::max()) ? 0 : 1);
    }
    wait_until([](const PoolStatus& s) { return s.waiters == 1; });
    only.reset();
    int result = -1;
    EXPECT_EQ(::waitpid(child, &result, 0), child);
    EXPECT_EQ(result, 0);
    // The child held it when it ended.
    EXPECT_TRUE(client.get_for(nanoseconds::max()));
}

TEST_F(RealDaemon, TakesBackWhatAKilledClientHeld) {
    start("64x100");
    Client client = attach();
    int ends[2] = {};
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        Client mine = attach();
        const std::vector<Slot> slots = get_all(mine);
        const std::uint64_t handle = slots.front().handle().value();
        if (::write(ends[1], &handle, sizeof(handle)) == sizeof(handle)) {
            ::pause();
        }
        ::_exit(1);
    }
    std::uint64_t handle = 0;
    ASSERT_EQ(::read(ends[0], &handle, sizeof(handle)), static_cast<ssize_t>(sizeof(handle)));
    EXPECT_FALSE(client.get());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_TRUE(client.get_for(nanoseconds::max()));
    // Counted when all of them are back, which is after the last of them is.
    wait_until([](const PoolStatus& s) { return s.reclaimed == 100; });
    EXPECT_EQ(status().held, 0U);
    std::error_code error;
    EXPECT_FALSE(client.adopt(mempool::Handle(handle), error));
    EXPECT_EQ(error, Errc::kStale);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(RealDaemon, IsNotMissedByGetAndPut) {
    start("64x64,max_slots=1024");
    Client client = attach();
    const Slot kept = client.get();
    daemon_.kill9();
    std::vector<Slot> slots = get_all(client);
    EXPECT_EQ(slots.size(), 63U);
    slots.clear();
    daemon_.restart();
    EXPECT_EQ(status().held, 1U);
    EXPECT_EQ(status().clients, 1U);
    // Reconnects by itself to ask for more.
    while (slots.size() < 200) {
        Slot slot = client.get_for(nanoseconds::max());
        ASSERT_TRUE(slot);
        slots.push_back(std::move(slot));
    }
    EXPECT_EQ(status().clients, 1U);
}

TEST_F(RealDaemon, HoldsUpNoGetWhileItIsStopped) {
    start("64x64,max_slots=1024");
    Client client = attach();
    daemon_.stop();
    const std::vector<Slot> slots = get_all(client);
    EXPECT_EQ(slots.size(), 64U);
    for (int k = 0; k < 1000; ++k) {
        EXPECT_FALSE(client.get());
    }
    EXPECT_FALSE(client.get_for(milliseconds{10}));
    daemon_.cont();
    EXPECT_TRUE(client.get_for(nanoseconds::max()));
}

TEST_F(RealDaemon, FindsAGoodbyeThatWasSaidWhileItWasDown) {
    start("64x64");
    std::optional<Client> client = attach();
    Slot kept = client->get();
    const mempool::Handle handle = kept.release();
    daemon_.kill9();
    client.reset();
    daemon_.restart();
    wait_until([](const PoolStatus& s) { return s.clients == 0 && s.held == 0; });
    Client next = attach();
    EXPECT_EQ(next.put(handle), Errc::kStale);
    EXPECT_EQ(get_all(next).size(), 64U);
}

TEST_F(RealDaemon, AForkedChildOutlivesItsParentsClient) {
    start("64x64");
    std::optional<Client> client = attach();
    const Slot kept = client->get();
    const pid_t child = ::fork();
    if (child == 0) {
        std::error_code error;
        const bool refused = !client->get(error) && error == Errc::kForked;
        Client mine = attach();
        const bool served = bool(mine.get());
        client.reset();
        ::_exit(refused && served && mine.get() ? 0 : 1);
    }
    int result = -1;
    EXPECT_EQ(::waitpid(child, &result, 0), child);
    EXPECT_EQ(result, 0);
    wait_until([](const PoolStatus& s) { return s.clients == 1; });
    EXPECT_EQ(status().held, 1U);
    EXPECT_TRUE(client->get());
}

TEST_F(RealDaemon, AForkedChildMayExitWithItsParentsClient) {
    start("64x64");
    Client client = attach();
    const Slot kept = client.get();
    const pid_t child = ::fork();
    if (child == 0) {
        std::exit(0);  // runs the destructors that run at exit, which is the point
    }
    int result = -1;
    EXPECT_EQ(::waitpid(child, &result, 0), child);
    EXPECT_EQ(result, 0);
    EXPECT_EQ(status().held, 1U);
    EXPECT_TRUE(client.get());
}

TEST_F(RealDaemon, ErasesWhatIsReturned) {
    start("64x1,erase_on_put=true");
    Client client = attach();
    EXPECT_TRUE(status().erase_on_put);
    Slot slot = client.get();
    ASSERT_TRUE(slot);
    slot.data()[5] = std::byte{9};
    slot.reset();
    slot = client.get();
    ASSERT_TRUE(slot);
    EXPECT_EQ(slot.data()[5], std::byte{0});
}

TEST_F(RealDaemon, CarriesOutAnAdminsRequests) {
    start("64x64,max_slots=1024");
    mempool::Admin admin = mempool::Admin::connect(options());
    EXPECT_THAT(admin.daemon_version(), testing::MatchesRegex("mempoold [0-9.]+, pid [0-9]+"));
    EXPECT_GE(admin.grow(pool_, 100), 100U);
    EXPECT_EQ(status().segments, 2U);
    Client client = attach();
    const mempool::Handle detached = client.get().detach();
    EXPECT_TRUE(detached);
    EXPECT_EQ(admin.reclaim(pool_).detached, 0U);
    EXPECT_EQ(admin.reclaim(pool_, std::chrono::seconds{0}).detached, 1U);
    EXPECT_EQ(client.put(detached), Errc::kStale);
    const auto pools = mempool::find_pools(options());
    EXPECT_TRUE(std::any_of(pools.begin(), pools.end(), [&](const auto& p) {
        return p.name == pool_ && p.served && p.present;
    }));
}

TEST_F(RealDaemon, ShowsItsClientAndItsSegments) {
    start("64x64,max_slots=1024");
    Client client = attach();
    const Slot held = client.get();
    const Inspector inspector = Inspector::open(pool_, options());
    const auto clients = inspector.clients();
    ASSERT_EQ(clients.size(), 1U);
    EXPECT_EQ(clients[0].id, client.id());
    EXPECT_EQ(clients[0].pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(clients[0].state, "active");
    EXPECT_EQ(clients[0].held, 1U);
    EXPECT_EQ(inspector.segments().size(), 1U);
    EXPECT_NE(status().daemon_pid, 0U);
}

}  // namespace
}  // namespace mempool_test
