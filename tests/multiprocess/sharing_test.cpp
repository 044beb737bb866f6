// Several processes and several pools: hand-over, growth under load, refusals, limits, memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <utility>
#include <vector>

#include "multiprocess/child.hpp"
#include "multiprocess/crew.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

using mempool::AttachOptions;
using mempool::Client;
using mempool::Handle;
using mempool::Slot;

class Sharing : public testing::Test {
protected:
    AttachOptions options() { return {.socket = daemon_.socket_path()}; }
    mempool::PoolStatus status() { return mempool::Inspector::open(pool_, options()).status(); }

    std::string pool_ = unique_pool("share");
    DaemonProcess daemon_;
};

std::uint64_t hear_number(const Line& line) {
    std::uint64_t value = 0;
    for (int k = 0; k < 8; ++k) {
        value = value << 8U | static_cast<unsigned char>(line.hear());
    }
    return value;
}

void say_number(const Line& line, std::uint64_t value) {
    for (int k = 7; k >= 0; --k) {
        line.say(static_cast<char>(value >> (8 * static_cast<unsigned>(k))));
    }
}

TEST_F(Sharing, BytesWrittenByOneAreReadByTheOtherAtTheSameOffset) {
    daemon_.start({"--pool", pool_ + ":4KiBx64"});
    Child receiver([this](const Line& line) {
        Client client = Client::attach(pool_, options());
        const Slot slot = client.adopt(Handle{hear_number(line)});
        if (!slot || slot.offset() != hear_number(line)) {
            return 2;
        }
        return std::strcmp(reinterpret_cast<const char*>(slot.data()), "hello") == 0 ? 0 : 3;
    });
    Client client = Client::attach(pool_, options());
    Slot slot = client.get();
    ASSERT_TRUE(slot);
    std::strcpy(reinterpret_cast<char*>(slot.data()), "hello");
    const std::uint64_t offset = slot.offset();
    const Handle handle = slot.detach();
    EXPECT_FALSE(slot);
    say_number(receiver.line(), handle.value());
    say_number(receiver.line(), offset);
    EXPECT_EQ(receiver.wait(), 0);
    EXPECT_EQ(client.put(handle), mempool::Errc::kStale);  // the receiver returned it
}

TEST_F(Sharing, HandleOfADeadSenderIsStale) {
    daemon_.start({"--pool", pool_ + ":4KiBx64"});
    Child sender([this](const Line& line) -> int {
        Client client = Client::attach(pool_, options());
        Slot slot = client.get();
        say_number(line, slot.release().value());
        (void)line.hear();
        ::_exit(0);  // without a goodbye, as a crash
    });
    const Handle handle{hear_number(sender.line())};
    sender.line().say('x');
    EXPECT_EQ(sender.wait(), 0);
    mempool::Admin::connect(options()).reclaim(pool_);
    Client client = Client::attach(pool_, options());
    std::error_code error;
    EXPECT_FALSE(client.adopt(handle, error));
    EXPECT_EQ(error, mempool::Errc::kStale);
    EXPECT_EQ(client.put(handle), mempool::Errc::kStale);
}

// Differs from process to process and from slot to slot.
int stamp_of(std::size_t slot) { return (::getpid() + static_cast<int>(slot)) & 0xff; }

// Gets and holds until somebody says so, each slot with its own stamp; returns all of them.
int hold_all(const std::string& pool, const AttachOptions& options, const Line& line,
             std::uint64_t share) {
    Client client = Client::attach(pool, options);
    std::vector<Slot> slots;
    while (slots.size() < share) {
        Slot slot = client.get_for(std::chrono::seconds{20});
        if (!slot) {
            return 2;
        }
        std::memset(slot.data(), stamp_of(slots.size()), slot.size());
        slots.push_back(std::move(slot));
    }
    line.say('h');
    if (line.hear() != 'g') {
        return 3;
    }
    for (std::size_t k = 0; k < slots.size(); ++k) {
        const auto expected = static_cast<std::byte>(stamp_of(k));
        for (const std::byte byte : slots[k].span()) {
            if (byte != expected) {
                return 4;
            }
        }
    }
    return client.put_bulk(slots) == slots.size() ? 0 : 5;
}

TEST_F(Sharing, PoolGrowsToItsMaximumUnderLoad) {
    daemon_.start({"--pool", pool_ + ":1KiBx64,max_slots=1024,grow_factor=2"});
    std::vector<std::unique_ptr<Child>> holders;
    holders.reserve(4);
    for (int k = 0; k < 4; ++k) {
        holders.push_back(std::make_unique<Child>(
            [this](const Line& line) { return hold_all(pool_, options(), line, 240); }));
    }
    for (const auto& holder : holders) {
        EXPECT_EQ(holder->line().hear(), 'h');
    }
    EXPECT_EQ(status().slots, 1024U);
    EXPECT_EQ(status().held, 960U);
    EXPECT_GT(status().segments, 1U);
    for (const auto& holder : holders) {
        holder->line().say('g');
        EXPECT_EQ(holder->wait(), 0);
    }
    expect_whole(daemon_.socket_path(), pool_);
}

TEST_F(Sharing, HandlesOfAnotherPoolAreRefused) {
    const std::string other = unique_pool("other");
    daemon_.start({"--pool", pool_ + ":256x64", "--pool", other + ":256x64"});
    Client a = Client::attach(pool_, options());
    Client b = Client::attach(other, options());
    std::vector<Slot> of_a;
    std::vector<Slot> of_b;
    for (int k = 0; k < 8; ++k) {
        of_a.push_back(a.get());
        of_b.push_back(b.get());
        ASSERT_TRUE(of_a.back() && of_b.back());
    }
    for (const Slot& slot : of_a) {
        std::error_code error;
        EXPECT_FALSE(b.adopt(slot.handle(), error));
        EXPECT_EQ(error, mempool::Errc::kStale);
        EXPECT_EQ(b.put(slot.handle()), mempool::Errc::kStale);
    }
    // A Slot knows its client: put of the wrong one takes nothing of b's.
    const mempool::PoolStatus before = mempool::Inspector::open(other, options()).status();
    (void)b.put(std::move(of_a[0]));
    EXPECT_EQ(mempool::Inspector::open(other, options()).status().held, before.held);
    of_a.clear();
    of_b.clear();
    EXPECT_EQ(status().held, 0U);
    EXPECT_EQ(mempool::Inspector::open(other, options()).status().held, 0U);
}

TEST_F(Sharing, TooManyClientsAreToldSoAndOthersGoOn) {
    daemon_.start({"--pool", pool_ + ":256x64,max_clients=4"});
    std::vector<Client> clients;
    try {
        for (int k = 0; k < 10; ++k) {
            clients.push_back(Client::attach(pool_, options()));
        }
        ADD_FAILURE() << "ten clients attached to a pool for four";
    } catch (const mempool::Error& e) {
        EXPECT_EQ(e.code().value(), EUSERS) << e.what();
    }
    EXPECT_EQ(clients.size(), 4U);
    EXPECT_TRUE(clients.back().get());
    clients.pop_back();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    for (bool attached = false; !attached;) {
        try {
            clients.push_back(Client::attach(pool_, options()));
            attached = true;
        } catch (const mempool::Error& e) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline) << e.what();
        }
    }
}

TEST_F(Sharing, DaemonOutOfDescriptorsServesAgainWhenSomebodyLeaves) {
    daemon_.start({"--pool", pool_ + ":256x64,max_clients=200"});
    const rlimit small{96, 96};
    ASSERT_EQ(::prlimit(daemon_.pid(), RLIMIT_NOFILE, &small, nullptr), 0);
    AttachOptions impatient = options();
    impatient.timeout = std::chrono::milliseconds{500};
    std::vector<Client> clients;
    for (int k = 0; k < 3; ++k) {
        clients.push_back(Client::attach(pool_, options()));
    }
    try {
        while (clients.size() < 100) {
            clients.push_back(Client::attach(pool_, impatient));
        }
    } catch (const mempool::Error&) {
    }
    EXPECT_LT(clients.size(), 100U);
    ASSERT_TRUE(daemon_.is_running());
    EXPECT_TRUE(clients.front().get());
    clients.clear();
    EXPECT_NO_THROW({
        Client again = Client::attach(pool_, options());
        EXPECT_TRUE(again.get());
    });
    expect_whole(daemon_.socket_path(), pool_);
}

// Kilobytes of memory of this process's own, as the kernel counts them.
std::uint64_t own_kib() {
    std::ifstream rollup("/proc/self/smaps_rollup");
    std::uint64_t sum = 0;
    for (std::string line; std::getline(rollup, line);) {
        if (line.rfind("Private_", 0) == 0) {
            sum += std::stoull(line.substr(line.find(':') + 1));
        }
    }
    return sum;
}

TEST_F(Sharing, AttachingToAMillionSlotsCostsAProcessLittleMemory) {
    daemon_.start({"--pool", pool_ + ":64x1000000"});
    EXPECT_LE(status().metadata_bytes, 32U * 1000000U);
    Child child([this](const Line&) {
        const Client warm_up = Client::attach(pool_, options());  // libraries, heap
        const std::uint64_t before = own_kib();
        Client client = Client::attach(pool_, options());
        const Slot slot = client.get();
        const std::uint64_t after = own_kib();
        return slot && after < before + 1024 ? 0 : 2;
    });
    EXPECT_EQ(child.wait(), 0);
    expect_whole(daemon_.socket_path(), pool_);
}

}  // namespace
}  // namespace mempool_test
