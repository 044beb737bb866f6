// How a client ends: with its program still at work in other threads, or by the daemon's decision.
#include <array>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "client/fixture.hpp"
#include "mempool/shm/recovery/end_client.hpp"
#include "mempool/shm/wire.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Slot;
using mempool::shm::ClientId;
using mempool::shm::ClientState;
using mempool::shm::RequestKind;

/// A client whose memory outlives it, as that of a static one does.
class StaticClient {
public:
    explicit StaticClient(const Served& served) : client_(new (memory_) Client(served.attach())) {}
    StaticClient(const StaticClient&) = delete;
    StaticClient& operator=(const StaticClient&) = delete;
    ~StaticClient() { destroy(); }

    void destroy() {
        if (!destroyed_) {
            destroyed_ = true;
            client_->~Client();
        }
    }
    Client* operator->() { return client_; }

private:
    alignas(Client) std::byte memory_[sizeof(Client)] = {};
    Client* client_;
    bool destroyed_ = false;
};

ClientState state_of(const Served& served, std::uint32_t client = 1) {
    return served.pool.pool().client(ClientId{client}).state.load();
}

TEST(Leave, WaitsForTheLastThreadThatHasALane) {
    const Served served;
    StaticClient client(served);
    std::barrier step(2);
    std::thread worker([&] {
        Slot slot = client->get();
        EXPECT_TRUE(slot);
        step.arrive_and_wait();
        step.arrive_and_wait();
        std::error_code error;
        EXPECT_FALSE(client->get(error));
        EXPECT_EQ(error, Errc::kClosed);
        slot.data()[0] = std::byte{1};  // still mapped
        slot.reset();
        EXPECT_EQ(served.pool.free_slots(), 64U);
        EXPECT_FALSE(client->get_for(std::chrono::seconds{9}, error));
        EXPECT_EQ(error, Errc::kClosed);
    });
    step.arrive_and_wait();
    client.destroy();
    EXPECT_EQ(state_of(served), ClientState::kActive);
    EXPECT_EQ(served.pool.lanes_in_use(), 1U);
    step.arrive_and_wait();
    worker.join();
    served.daemon.wait_for(RequestKind::kBye);
    EXPECT_EQ(served.daemon.seen(RequestKind::kBye), 1U);
    EXPECT_EQ(served.daemon.proved_goodbyes(), 1U);
    EXPECT_EQ(state_of(served), ClientState::kLeaving);
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Leave, GivesBackTheLanesOfItsOwnThreadAndOfTheHomeAtOnce) {
    // Two clients' worth of records: six lanes for threads, and the home lane for the others.
    const Served served({.slots = 64, .client_count = 2});
    StaticClient client(served);
    std::barrier step(9);
    std::vector<std::thread> workers;
    workers.reserve(8);
    for (int k = 0; k < 8; ++k) {
        workers.emplace_back([&] {
            EXPECT_TRUE(client->get());
            step.arrive_and_wait();
            step.arrive_and_wait();
            EXPECT_FALSE(client->get());
        });
    }
    step.arrive_and_wait();
    EXPECT_EQ(served.pool.lanes_in_use(), 7U);
    client.destroy();
    EXPECT_EQ(served.pool.lanes_in_use(), 6U);
    step.arrive_and_wait();
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Leave, EndsAWaitOfAnotherThread) {
    for (const std::uint32_t clients : {8U, 2U}) {  // with a lane of its own, and in the home lane
        const Served served({.slots = 8, .client_count = clients});
        StaticClient client(served);
        const std::vector<Slot> all = get_all(*client.operator->());
        ASSERT_EQ(all.size(), 8U);
        std::vector<std::thread> waiters;
        for (int k = 0; k < 7; ++k) {
            waiters.emplace_back([&] {
                std::error_code error;
                EXPECT_FALSE(client->get_for(std::chrono::hours{1}, error));
                EXPECT_EQ(error, Errc::kClosed);
            });
        }
        while (served.pool.pool().live().waiters.load() != 7) {
            std::this_thread::yield();
        }
        client.destroy();  // before its Slots: else the waiters would get those
        for (std::thread& waiter : waiters) {
            waiter.join();
        }
        served.daemon.wait_for(RequestKind::kBye);
        EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    }
}

TEST(Leave, ALateCallFindsAClosedClient) {
    const Served served;
    StaticClient client(served);
    EXPECT_TRUE(client->get());
    client.destroy();
    served.daemon.wait_for(RequestKind::kBye);
    const auto refused = [&] {
        std::error_code error;
        EXPECT_FALSE(client->get(error));
        EXPECT_EQ(error, Errc::kClosed);
        EXPECT_FALSE(client->get_for(std::chrono::seconds{9}, error));
        EXPECT_EQ(error, Errc::kClosed);
        std::array<Slot, 3> some;
        EXPECT_EQ(client->get_bulk(some, error), 0U);
        EXPECT_EQ(error, Errc::kClosed);
        EXPECT_FALSE(client->adopt(mempool::Handle(1, 1), error));
        EXPECT_EQ(error, Errc::kClosed);
        EXPECT_EQ(client->put(mempool::Handle(1, 1)), Errc::kClosed);
        client->close();
        EXPECT_EQ(client->pool(), served.pool.name());
        EXPECT_EQ(client->slot_size(), 128U);
        EXPECT_EQ(client->id(), 1U);
    };
    refused();
    std::thread(refused).join();
    EXPECT_EQ(served.daemon.seen(RequestKind::kBye), 1U);
}

TEST(Leave, ASlotThatOutlivesItsClientIsInert) {
    const Served served;
    std::optional<Client> client = served.attach();
    Slot plain = client->get();
    Slot shared = client->get();
    Slot detached = client->get();
    EXPECT_TRUE(shared.handle());
    client.reset();
    EXPECT_EQ(plain.size(), 128U);
    EXPECT_FALSE(plain.handle());
    plain.reset();
    shared.reset();
    detached.set_tag(7);
    EXPECT_FALSE(detached.detach());
    EXPECT_EQ(served.pool.free_slots(), 61U);  // the daemon's to take back
}

TEST(Leave, AThreadThatGoesOnWithAnotherClientGivesTheFormersLaneBack) {
    const Served served;
    std::optional<Client> client = served.attach();
    std::barrier step(2);
    std::thread worker([&] {
        EXPECT_TRUE(client->get());
        step.arrive_and_wait();
        step.arrive_and_wait();
        EXPECT_TRUE(client->get());
        served.daemon.wait_for(RequestKind::kBye);
        step.arrive_and_wait();
    });
    step.arrive_and_wait();
    *client = served.attach();
    EXPECT_EQ(served.daemon.seen(RequestKind::kBye), 0U);
    step.arrive_and_wait();
    step.arrive_and_wait();
    EXPECT_EQ(state_of(served, 1), ClientState::kLeaving);
    EXPECT_EQ(state_of(served, 2), ClientState::kActive);
    worker.join();
}

// Threads get, wait and put all along while the client goes, in any order of events; whatever they
// have is back when the last of them has ended.
TEST(Leave, BesideThreadsInEveryOperation) {
    for (int round = 0; round < 40; ++round) {
        const Served served({.slots = 32, .client_count = 2});
        StaticClient client(served);
        std::barrier step(9);
        std::vector<std::thread> workers;
        workers.reserve(8);
        for (int k = 0; k < 8; ++k) {
            workers.emplace_back([&, k] {
                step.arrive_and_wait();
                std::error_code error;
                while (error != Errc::kClosed) {
                    Slot slot = k % 2 == 0 ? client->get_for(std::chrono::milliseconds{20}, error)
                                           : client->get(error);
                    if (k % 4 == 3) {
                        client->put(slot.release());
                    }
                }
            });
        }
        step.arrive_and_wait();
        std::this_thread::sleep_for(std::chrono::microseconds{50 * round});
        client.destroy();
        for (std::thread& worker : workers) {
            worker.join();
        }
        served.daemon.wait_for(RequestKind::kBye);
        EXPECT_EQ(served.daemon.proved_goodbyes(), 1U);
        EXPECT_EQ(served.pool.lanes_in_use(), 0U);
    }
}

/// What the daemon does first when it ends an attachment.
void end_attachment_of(const Served& served, std::uint32_t client) {
    served.pool.pool().client(ClientId{client}).epoch.fetch_add(1);
}

TEST(Ended, EverySlowWayRefuses) {
    Served served({.slots = 64, .max_slots = 1024});
    Client client = served.attach();
    Slot held = client.get();
    const Slot never_shown = client.get();
    const mempool::shm::SlotIndex index{held.handle().index()};
    const std::vector<Slot> all = get_all(client);
    served.daemon.wait_for(RequestKind::kWantMore);
    end_attachment_of(served, client.id());
    served.pool.pool().live().grow_wanted.store(0);
    std::error_code error;
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kEnded);
    EXPECT_FALSE(client.get_for(std::chrono::seconds{9}, error));
    EXPECT_EQ(error, Errc::kEnded);
    EXPECT_EQ(served.pool.pool().live().grow_wanted.load(), 0U);
    served.pool.grow(64);
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kEnded);
    held.set_tag(9);
    EXPECT_EQ(served.pool.pool().record(index).tag.load(), 0U);
    mempool::shm::shut_out(served.pool.pool(), mempool::shm::ClientId{client.id()});
    EXPECT_FALSE(never_shown.handle());
    const std::uint32_t sequence = served.pool.pool().live().wake_sequence.load();
    client.close();
    EXPECT_EQ(served.pool.pool().live().wake_sequence.load(), sequence);
}

TEST(Ended, AThreadWithoutALaneClaimsNone) {
    const Served served;
    Client client = served.attach();
    end_attachment_of(served, client.id());
    std::thread([&] {
        std::error_code error;
        EXPECT_FALSE(client.get(error));
        EXPECT_EQ(error, Errc::kEnded);
        EXPECT_EQ(client.put(mempool::Handle(0, 78)), Errc::kEnded);
    }).join();
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
}

TEST(Ended, AWaitEnds) {
    const Served served({.slots = 4});
    Client client = served.attach();
    const std::vector<Slot> all = get_all(client);
    std::thread waiter([&] {
        std::error_code error;
        EXPECT_FALSE(client.get_for(std::chrono::hours{1}, error));
        EXPECT_EQ(error, Errc::kEnded);
    });
    while (served.pool.pool().live().waiters.load() == 0) {
        std::this_thread::yield();
    }
    end_attachment_of(served, client.id());
    waiter.join();
}

TEST(Ended, TheDestructorLeavesLanesAndRecordsAlone) {
    const Served served;
    {
        Client client = served.attach();
        EXPECT_TRUE(client.get());
        end_attachment_of(served, client.id());
    }
    served.daemon.wait_for(RequestKind::kBye);  // it says that it has unmapped the pool
    EXPECT_EQ(served.pool.lanes_in_use(), 1U);
    EXPECT_EQ(state_of(served), ClientState::kActive);
    EXPECT_EQ(served.pool.pool().lane(mempool::shm::LaneId{1}).farewell.load(), 0U);
}

TEST(Ended, ASecondAttachmentOfTheProcessIsAnother) {
    const Served served;
    Client first = served.attach();
    Client second = served.attach();
    end_attachment_of(served, first.id());
    std::error_code error;
    EXPECT_FALSE(first.get(error));
    EXPECT_EQ(error, Errc::kEnded);
    EXPECT_TRUE(second.get(error));
}

TEST(Ended, SaysTheDaemonThatRefusesToResume) {
    Served served({}, [](const mempool::shm::Request& request, Answer& answer) {
        if (request.kind == RequestKind::kResume) {
            answer.reply.error = ESTALE;
        }
    });
    Client client = served.attach();
    const std::vector<Slot> all = get_all(client);
    served.daemon.stop();
    served.daemon.start();
    served.pool.grow(64, false);
    std::error_code error;
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kEnded);
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kEnded);
    EXPECT_EQ(served.daemon.seen(RequestKind::kResume), 1U);
}

}  // namespace
}  // namespace mempool_test
