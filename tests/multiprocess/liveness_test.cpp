// Who counts as dead and who doesn't: one that is killed, without a connection, turned into another
// program, left behind by a daemon that was killed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <thread>
#include <vector>

#include "multiprocess/child.hpp"
#include "multiprocess/crew.hpp"
#include "multiprocess/holder.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Slot;

class Liveness : public testing::Test {
protected:
    void SetUp() override { daemon_.start({"--pool", pool_ + ":256x100"}); }
    mempool::AttachOptions options() { return {.socket = daemon_.socket_path()}; }
    mempool::PoolStatus status() { return mempool::Inspector::open(pool_, options()).status(); }
    std::function<int(const Line&)> holder() {
        return [this](const Line& line) {
            Client client = Client::attach(pool_, options());
            return hold_and_return(client, line);
        };
    }
    // Waits until `done` says so; fails the test when patience ends.
    static void wait_until(const std::function<bool()>& done, const char* what) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
        while (!done()) {
            if (std::chrono::steady_clock::now() > deadline) {
                FAIL() << "in vain: " << what;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{5});
        }
    }

    std::string pool_ = unique_pool("live");
    DaemonProcess daemon_;
};

TEST_F(Liveness, ClientThatDiesGivesBackWhatItHeld) {
    Child child(holder());
    ASSERT_EQ(child.line().hear(), 'h');
    EXPECT_EQ(status().held, kHeld);
    child.signal(SIGKILL);
    child.wait();
    wait_until([&] { return status().clients == 0; }, "the death is noticed");
    EXPECT_EQ(status().reclaimed, kHeld);
    expect_whole(daemon_.socket_path(), pool_);
}

TEST_F(Liveness, ClientThatClosesAllItsDescriptorsKeepsItsSlots) {
    Child child([this](const Line& line) {
        Client client = Client::attach(pool_, options());
        // As a daemonizing program does: closes what it doesn't know, and that is the connection.
        for (int fd = 3; fd < 64; ++fd) {
            char path[64];
            char target[64] = {};
            std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
            if (::readlink(path, target, sizeof(target) - 1) > 0 &&
                std::strncmp(target, "pipe:", 5) != 0) {
                ::close(fd);
            }
        }
        return hold_and_return(client, line);
    });
    ASSERT_EQ(child.line().hear(), 'h');
    std::this_thread::sleep_for(std::chrono::milliseconds{2500});  // some ticks of the daemon
    EXPECT_EQ(status().held, kHeld);
    EXPECT_EQ(status().clients, 1U);
    child.line().say('g');
    EXPECT_EQ(child.line().hear(), 'd');
    child.signal(SIGKILL);
    child.wait();
    wait_until([&] { return status().clients == 0; }, "the death is noticed by the pidfd");
    expect_whole(daemon_.socket_path(), pool_);
}

TEST_F(Liveness, ClientThatExecsGivesBackWhatItHeld) {
    Child child([this](const Line& line) {
        Client client = Client::attach(pool_, options());
        std::vector<Slot> slots;
        for (std::size_t k = 0; k < kHeld; ++k) {
            slots.push_back(client.get());
        }
        line.say('h');
        (void)line.hear();
        ::execl("/bin/sleep", "sleep", "1000", nullptr);
        return 7;
    });
    ASSERT_EQ(child.line().hear(), 'h');
    child.line().say('g');
    wait_until([&] { return status().clients == 0; }, "the exec is noticed");
    EXPECT_EQ(::kill(child.pid(), 0), 0);  // the process lives
    expect_whole(daemon_.socket_path(), pool_);
}

TEST_F(Liveness, ClientOutlivesTheDaemonAndIsFoundAgain) {
    Child one(holder());
    Child two(holder());
    ASSERT_EQ(one.line().hear(), 'h');
    ASSERT_EQ(two.line().hear(), 'h');
    daemon_.kill9();
    one.line().say('g');  // returns all while no daemon is there
    EXPECT_EQ(one.line().hear(), 'd');
    daemon_.restart();
    EXPECT_EQ(status().clients, 2U);
    EXPECT_EQ(status().held, kHeld);
    two.signal(SIGKILL);
    two.wait();
    wait_until([&] { return status().clients == 1; }, "a death after the restart is noticed");
    one.line().say('e');
    EXPECT_EQ(one.wait(), 0);
    expect_whole(daemon_.socket_path(), pool_);
}

TEST_F(Liveness, DeathsWhileNoDaemonIsThereAreFoundAtItsStart) {
    Child one(holder());
    Child two(holder());
    ASSERT_EQ(one.line().hear(), 'h');
    ASSERT_EQ(two.line().hear(), 'h');
    daemon_.kill9();
    one.signal(SIGKILL);
    one.wait();
    daemon_.restart();
    EXPECT_EQ(status().clients, 1U);
    EXPECT_EQ(status().held, kHeld);
    EXPECT_EQ(status().reclaimed, kHeld);
    two.line().say('g');
    EXPECT_EQ(two.line().hear(), 'd');
    two.line().say('e');
    EXPECT_EQ(two.wait(), 0);
    expect_whole(daemon_.socket_path(), pool_);
}

}  // namespace
}  // namespace mempool_test
