// How many instructions the fast ways take, to the last one: a regression that no clock of a busy
// machine would show.
//
// Counted by single-stepping, which works where the processor's counters are not to be had. The
// bounds stand a tenth above what GCC 12 made of it; whoever passes one has made get or put slower
// for everybody, or says why it must be so and moves the bound.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>

#include "crash/stepper.hpp"
#include "mempool/client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Slot;

constexpr std::size_t kBatch = 32;
constexpr int kWarm = 200;

/// A pool, and what a child does with it: attach, warm up, then what is counted.
class Instructions : public testing::Test {
protected:
    void SetUp() override {
        if (!mempool::test::can_trace()) {
            GTEST_SKIP() << "this machine lets no process trace its children";
        }
        daemon_.start({"--pool", pool_ + ":64x4096"});
    }

    /// Instructions that one more `work(client)` takes, warm.
    template <typename Work>
    [[nodiscard]] double count(Work work) const {
        constexpr int kFew = 5;
        constexpr int kMany = 25;
        return static_cast<double>(steps(work, kMany) - steps(work, kFew)) / (kMany - kFew);
    }

private:
    template <typename Work>
    [[nodiscard]] std::uint64_t steps(Work& work, int rounds) const {
        std::unique_ptr<Client> client;
        const auto warm_up = [&] {
            client =
                std::make_unique<Client>(Client::attach(pool_, {.socket = daemon_.socket_path()}));
            for (int k = 0; k < kWarm; ++k) {
                work(*client);
            }
        };
        mempool::test::Stepper child(
            [&] {
                for (int k = 0; k < rounds; ++k) {
                    work(*client);
                }
                return 0;
            },
            warm_up);
        while (child.step()) {
        }
        return child.steps();
    }

    DaemonProcess daemon_;
    std::string pool_ = unique_pool("steps");
};

/// The slot's bytes are used, as far as the compiler knows.
void touch(const Slot& slot) { asm volatile("" : : "r"(slot.data()) : "memory"); }

TEST_F(Instructions, OfAGetAndPutStayWithinTheirBound) {
    const double pair = count([](Client& client) {
        Slot slot = client.get();
        touch(slot);
        client.put(std::move(slot));
    });
    RecordProperty("instructions", std::to_string(pair));
    std::printf("a get and put: %.1f instructions\n", pair);
    EXPECT_LE(pair, 105);
    EXPECT_GE(pair, 30);  // else it counts something else
}

TEST_F(Instructions, OfASlotInBulkStayWithinTheirBound) {
    const double batch = count([](Client& client) {
        static std::array<Slot, kBatch> slots;
        if (client.get_bulk(slots) != kBatch) {
            throw std::runtime_error("the pool is exhausted");
        }
        client.put_bulk(slots);
    });
    const double slot = batch / kBatch;
    RecordProperty("instructions", std::to_string(slot));
    std::printf("a slot got and put 32 at a time: %.1f instructions\n", slot);
    EXPECT_LE(slot, 79);
    EXPECT_GE(slot, 10);
}

}  // namespace
}  // namespace mempool_test
