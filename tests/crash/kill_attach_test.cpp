// A client killed at every system call, from before it attaches until after it has closed: the
// daemon takes back whatever it had, and its place.
//
// What happens between two system calls to shared memory is what kill_client_test steps through.
#include <gtest/gtest.h>

#include <chrono>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <thread>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool::test {
namespace {

using mempool_test::DaemonProcess;

class KillAttach : public Stepped {
protected:
    void SetUp() override {
        Stepped::SetUp();
        if (!IsSkipped()) {
            daemon_.start({"--pool", pool_ + ":64x64,max_clients=2,cache_bytes=256"});
        }
    }
    AttachOptions options() const { return {.socket = daemon_.socket_path()}; }

    int attach_and_leave() const {
        Client client = Client::attach(pool_, options());
        std::vector<Slot> slots(20);
        if (client.get_bulk(slots) != 20) {
            return 1;
        }
        slots.clear();
        client.close();
        return 0;
    }

    // Empty once all slots are free and nobody is attached.
    std::string fault() const {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
        for (;;) {
            const Inspector inspector = Inspector::open(pool_, options());
            const PoolStatus status = inspector.status();
            const std::size_t clients = inspector.clients().size();
            if (clients == 0 && status.free == status.slots) {
                const AuditReport audit = inspector.audit();
                return audit.findings.empty() ? "" : audit.findings.front().text;
            }
            if (std::chrono::steady_clock::now() > end) {
                return std::to_string(clients) + " clients, " + std::to_string(status.free) +
                       " of " + std::to_string(status.slots) + " free";
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
    }

    const std::string pool_ = mempool_test::unique_pool("killattach");
    DaemonProcess daemon_;
};

TEST_F(KillAttach, AtEverySystemCallLosesNothing) {
    std::uint64_t kills = 0;
    for (bool over = false; !over; ++kills) {
        Stepper child([this] { return attach_and_leave(); });
        for (std::uint64_t k = 0; k < kills && !over; ++k) {
            over = !child.to_system_call();
        }
        child.kill();
        ASSERT_EQ(fault(), "") << "killed at stop " << kills << " of its system calls";
    }
    summarize("killed in", "AttachToClose, at system calls", kills - 1, kills, 0);
    EXPECT_GT(kills, 40U);
    const Client one = Client::attach(pool_, options());
    const Client two = Client::attach(pool_, options());
    EXPECT_NE(one.id(), two.id()) << "both places are there again";
}

}  // namespace
}  // namespace mempool::test
