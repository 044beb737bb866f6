// A forked child: refused by its parent's client, free to attach anew, harmless to the parent.
#include <optional>
#include <thread>

#include "client/fixture.hpp"
#include "client/in_child.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Slot;

TEST(Fork, TheChildIsRefusedEverything) {
    const Served served;
    Client client = served.attach();
    Slot held = client.get();
    const mempool::Handle handle = held.handle();
    Slot never_shown = client.get();
    EXPECT_EQ(in_child([&] {
                  std::error_code error;
                  MEMPOOL_CHECK(!client.get(error) && error == Errc::kForked);
                  MEMPOOL_CHECK(!client.get_for(std::chrono::seconds{9}, error));
                  MEMPOOL_CHECK(error == Errc::kForked);
                  std::array<Slot, 3> some;
                  MEMPOOL_CHECK(client.get_bulk(some, error) == 0 && error == Errc::kForked);
                  MEMPOOL_CHECK(!client.adopt(handle, error) && error == Errc::kForked);
                  MEMPOOL_CHECK(client.put(handle) == Errc::kForked);
                  held.set_tag(3);
                  MEMPOOL_CHECK(held.offset() != 0);
                  MEMPOOL_CHECK(!held.detach());
                  MEMPOOL_CHECK(!never_shown.handle() && !never_shown.release());
                  MEMPOOL_CHECK(client.slot_size() == 128 && client.id() == 1);
                  MEMPOOL_CHECK(client.pool() == served.pool.name());
                  return 0;
              }),
              0);
    EXPECT_TRUE(held);
    EXPECT_EQ(served.pool.free_slots(), 62U);
    EXPECT_FALSE(client.put(std::move(held)));
    EXPECT_FALSE(client.put(std::move(never_shown)));
}

TEST(Fork, TheChildsDestructorsGiveNothingBack) {
    const Served served;
    std::optional<Client> client = served.attach();
    std::optional<Slot> held = client->get();
    EXPECT_EQ(in_child([&] {
                  held.reset();
                  client.reset();
                  return 0;
              }),
              0);
    EXPECT_EQ(served.pool.free_slots(), 63U);
    EXPECT_EQ(served.pool.lanes_in_use(), 1U);
    EXPECT_EQ(served.pool.pool().client(mempool::shm::ClientId{1}).state.load(),
              mempool::shm::ClientState::kActive);
    EXPECT_TRUE(client->get());
    held.reset();
    EXPECT_EQ(served.pool.free_slots(), 64U);
    EXPECT_EQ(served.daemon.seen(mempool::shm::RequestKind::kBye), 0U);
}

TEST(Fork, TheChildMayAttachAnewAndUseBothKindsOfThread) {
    const Served served;
    Client client = served.attach();
    const Slot held = client.get();
    EXPECT_EQ(in_child([&] {
                  Client mine = served.attach();
                  MEMPOOL_CHECK(mine.id() == 2);
                  MEMPOOL_CHECK(mine.get());
                  bool fine = false;
                  std::thread([&] { fine = bool(mine.get()); }).join();
                  MEMPOOL_CHECK(fine);
                  MEMPOOL_CHECK(!client.get());
                  // Moving over the inherited client only unmaps it.
                  client = std::move(mine);
                  MEMPOOL_CHECK(client.get());
                  return 0;
              }),
              0);
    EXPECT_TRUE(client.get());
    EXPECT_EQ(served.pool.free_slots(), 63U);
}

TEST(Fork, AGrandchildIsRefusedToo) {
    const Served served;
    Client client = served.attach();
    EXPECT_EQ(in_child([&] {
                  Client mine = served.attach();
                  MEMPOOL_CHECK(mine.get());
                  MEMPOOL_CHECK(in_child([&] {
                                    std::error_code error;
                                    MEMPOOL_CHECK(!mine.get(error) && error == Errc::kForked);
                                    MEMPOOL_CHECK(!client.get(error) && error == Errc::kForked);
                                    return 0;
                                }) == 0);
                  MEMPOOL_CHECK(mine.get());
                  return 0;
              }),
              0);
}

TEST(Fork, BesideThreadsThatKeepGettingAndAttaching) {
    const Served served({.slots = 256, .client_count = 64});
    Client client = served.attach();
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    threads.reserve(2);
    for (int k = 0; k < 2; ++k) {
        threads.emplace_back([&] {
            while (!stop.load()) {
                EXPECT_TRUE(client.get());
                std::thread([&] { EXPECT_TRUE(client.get()); }).join();
            }
        });
    }
    for (int round = 0; round < 50; ++round) {
        EXPECT_EQ(in_child([&] {
                      std::error_code error;
                      MEMPOOL_CHECK(!client.get(error) && error == Errc::kForked);
                      return 0;
                  }),
                  0);
    }
    stop.store(true);
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(served.pool.free_slots(), 256U);
}

}  // namespace
}  // namespace mempool_test
