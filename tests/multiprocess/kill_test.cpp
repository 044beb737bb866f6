// SIGKILL at random moments, of clients and of the daemon, under full load: afterwards every slot
// is free, and nobody ever saw another's bytes in a slot it held.
//
// MEMPOOL_KILLS and MEMPOOL_DAEMON_KILLS set how many (default 1000 and 40).
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>

#include "mempool/inspect.hpp"
#include "multiprocess/crew.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint32_t kUsualKills = 100;
constexpr std::uint32_t kUsualDaemonKills = 10;
#else
constexpr std::uint32_t kUsualKills = 1000;
constexpr std::uint32_t kUsualDaemonKills = 40;
#endif

class KillTest : public testing::Test {
protected:
    void start(const std::string& shape) { daemon_.start({"--pool", pool_ + ":" + shape}); }
    CrewOptions crew_options() { return {.socket = daemon_.socket_path(), .pool = pool_}; }
    void check(Crew& crew) {
        EXPECT_EQ(crew.dismiss(), 0U);
        EXPECT_EQ(crew.tally().violations.load(), 0U);
        EXPECT_GT(crew.tally().gets.load(), 0U);
        EXPECT_GT(crew.tally().adopted.load(), 0U);
        expect_whole(daemon_.socket_path(), pool_);
        RecordProperty("gets", std::to_string(crew.tally().gets.load()));
        RecordProperty("adopted", std::to_string(crew.tally().adopted.load()));
        RecordProperty("attached", std::to_string(crew.tally().attached.load()));
    }

    std::string pool_ = unique_pool("kill");
    DaemonProcess daemon_;
    std::mt19937 random_{7};
};

TEST_F(KillTest, OfClientsLosesNoSlot) {
    start("128x640,max_clients=64");
    Crew crew(crew_options());
    const std::uint32_t kills = setting("MEMPOOL_KILLS", kUsualKills);
    for (std::uint32_t k = 0; k < kills && !HasFailure(); ++k) {
        sleep_random(random_, 3000);
        crew.replace_one();
    }
    check(crew);
}

TEST_F(KillTest, OfClientsLosesNoSlotWhenSlotsAreFew) {
    // Magazines of one slot and constant exhaustion: every operation goes to the depot.
    start("64x48,max_clients=64");
    Crew crew(crew_options());
    const std::uint32_t kills = setting("MEMPOOL_KILLS", kUsualKills) / 4;
    for (std::uint32_t k = 0; k < kills && !HasFailure(); ++k) {
        sleep_random(random_, 3000);
        crew.replace_one();
    }
    check(crew);
}

TEST_F(KillTest, OfClientsWhileThePoolGrowsLosesNoSlot) {
    start("4KiBx64,max_slots=4096,grow_slots=64,erase_on_put=yes,max_clients=64");
    CrewOptions options = crew_options();
    options.most_held = 400;
    Crew crew(options);
    const std::uint32_t kills = setting("MEMPOOL_KILLS", kUsualKills) / 4;
    for (std::uint32_t k = 0; k < kills && !HasFailure(); ++k) {
        sleep_random(random_, 3000);
        crew.replace_one();
    }
    check(crew);
}

TEST_F(KillTest, OfTheDaemonStopsNobodyAndLosesNoSlot) {
    start("128x640,max_clients=64");
    Crew crew(crew_options());
    const std::uint32_t kills = setting("MEMPOOL_DAEMON_KILLS", kUsualDaemonKills);
    for (std::uint32_t k = 0; k < kills && !HasFailure(); ++k) {
        // Clients that die while it is down are found dead by the next daemon.
        const std::uint32_t deaths = k % 4;
        const auto wait_for_gets = [&](std::uint64_t count) {
            const std::uint64_t before = crew.tally().gets.load();
            const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes{1};
            while (crew.tally().gets.load() < before + count) {
                if (std::chrono::steady_clock::now() > deadline) {
                    FAIL() << "nobody gets anything";
                }
                sleep_random(random_, 1000);
            }
        };
        sleep_random(random_, 20000);
        wait_for_gets(100);  // at least one member is attached and at work
        daemon_.kill9();
        for (std::uint32_t death = 0; death < deaths; ++death) {
            sleep_random(random_, 2000);
            crew.replace_one();
        }
        if (deaths == 0) {  // nobody died, so those at work go on
            wait_for_gets(100);
        }
        daemon_.restart();
    }
    check(crew);
}

TEST_F(KillTest, OfTheDaemonWhileItReclaimsAndGrowsLosesNoSlot) {
    start("4KiBx64,max_slots=2048,grow_slots=32,max_clients=64");
    CrewOptions options = crew_options();
    options.most_held = 200;
    Crew crew(options);
    const std::uint32_t kills = setting("MEMPOOL_DAEMON_KILLS", kUsualDaemonKills);
    for (std::uint32_t k = 0; k < kills && !HasFailure(); ++k) {
        crew.replace_one();  // gives it something to do
        sleep_random(random_, 2000);
        daemon_.kill9();
        daemon_.restart();
    }
    check(crew);
}

}  // namespace
}  // namespace mempool_test
