// A client stopped for long (SIGSTOP, a debugger, a suspended machine) is not dead: nothing is
// taken from it, and it holds up nobody.
//
// MEMPOOL_STOP_SECONDS sets how long (default 30).
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <thread>

#include "multiprocess/child.hpp"
#include "multiprocess/crew.hpp"
#include "multiprocess/holder.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

TEST(Stop, ClientStoppedForLongKeepsWhatItHasAndHoldsUpNobody) {
    const std::string pool = unique_pool("stop");
    DaemonProcess daemon;
    daemon.start({"--pool", pool + ":256x100"});
    const mempool::AttachOptions options{.socket = daemon.socket_path()};
    Child child([&](const Line& line) {
        auto client = mempool::Client::attach(pool, options);
        return hold_and_return(client, line);
    });
    ASSERT_EQ(child.line().hear(), 'h');
    const auto inspector = mempool::Inspector::open(pool, options);
    const std::uint64_t cached = inspector.status().cached;
    child.signal(SIGSTOP);
    // The others use all that is left, all the time; one of them dies now and then.
    {
        Crew crew({.socket = daemon.socket_path(), .pool = pool, .members = 3});
        const std::uint32_t seconds = setting("MEMPOOL_STOP_SECONDS", 30);
        for (std::uint32_t k = 0; k < 10 * seconds; ++k) {
            std::this_thread::sleep_for(std::chrono::milliseconds{100});
            if (k % 10 == 0) {
                crew.replace_one();
            }
        }
        EXPECT_EQ(crew.dismiss(), 0U);
        EXPECT_EQ(crew.tally().violations.load(), 0U);
        EXPECT_GT(crew.tally().gets.load(), 0U);
    }
    auto admin = mempool::Admin::connect(options);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (inspector.status().clients != 1 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    admin.reclaim(pool, std::chrono::seconds{0});
    const mempool::PoolStatus status = inspector.status();
    EXPECT_EQ(status.clients, 1U);
    EXPECT_EQ(status.held, kHeld);
    EXPECT_EQ(status.cached, cached);
    child.signal(SIGCONT);
    child.line().say('g');
    EXPECT_EQ(child.line().hear(), 'd');
    child.line().say('e');
    EXPECT_EQ(child.wait(), 0);
    expect_whole(daemon.socket_path(), pool);
}

}  // namespace
}  // namespace mempool_test
