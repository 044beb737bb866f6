// Clients that write where they shouldn't, or cut the memory off: the daemon lives, the other pool
// is served all the while, and what was damaged is mended or given up.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/names.hpp"
#include "mempool/shm/words/unique_fd.hpp"
#include "multiprocess/child.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {
namespace {

using mempool::Admin;
using mempool::AttachOptions;
using mempool::Client;
using mempool::Inspector;
using mempool::Slot;
using mempool::shm::UniqueFd;

// All of a pool's first object, as one of its clients can map it.
std::span<std::uint64_t> map_all(const std::string& pool) {
    const std::string object = mempool::shm::object_name(pool, 0);
    const UniqueFd fd{::shm_open(object.c_str(), O_RDWR, 0)};
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) {
        throw std::runtime_error("cannot open " + object);
    }
    const auto bytes = static_cast<std::size_t>(status.st_size);
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (base == MAP_FAILED) {
        throw std::runtime_error("cannot map " + object);
    }
    return {static_cast<std::uint64_t*>(base), bytes / sizeof(std::uint64_t)};
}

// Not atomic and unordered on purpose: it is what the others have to live with.
void write(std::uint64_t& word, std::uint64_t value) {
    *static_cast<volatile std::uint64_t*>(&word) = value;
}

class Hostile : public testing::Test {
protected:
    void SetUp() override {
        daemon_.start({"--pool", pool_ + ":64x256,max_slots=1024,max_clients=8", "--pool",
                       other_ + ":64x128"});
    }
    AttachOptions options() const { return {.socket = daemon_.socket_path()}; }

    // A client of the pool that does `harm` to its memory over and over, until it is killed.
    std::unique_ptr<Child> start_harm(
        const std::function<void(std::span<std::uint64_t>)>& harm) const {
        auto child = std::make_unique<Child>([this, harm](const Line& line) {
            const Client client = Client::attach(pool_, options());
            const std::span<std::uint64_t> memory = map_all(pool_);
            line.say('!');
            for (;;) {
                harm(memory);
            }
            return 0;
        });
        EXPECT_EQ(child->line().hear(), '!');
        return child;
    }

    // Everything one asks of a daemon, of the pool that nobody harms.
    void expect_service() const {
        Client client = Client::attach(other_, options());
        std::vector<Slot> slots(100);
        EXPECT_EQ(client.get_bulk(slots), 100U);
        slots.clear();
        Admin admin = Admin::connect(options());
        EXPECT_EQ(admin.reclaim(other_).slots, 0U);
        EXPECT_TRUE(admin.repair(other_).mended.empty());
        EXPECT_TRUE(Inspector::open(other_, options()).audit().findings.empty());
        EXPECT_EQ(Inspector::open(other_, options()).status().slots, 128U);
    }

    // All that can be asked of a damaged pool is answered, or refused with a reason.
    void ask_all() const {
        const auto ask = [](const std::function<void()>& question) {
            try {
                question();
            } catch (const mempool::Error& refused) {
                EXPECT_STRNE(refused.what(), "");
                EXPECT_NE(refused.code().value(), ETIMEDOUT);
            }
        };
        ask([this] { Admin::connect(options()).reclaim(pool_, std::chrono::seconds{0}); });
        ask([this] { Admin::connect(options()).repair(pool_); });
        ask([this] { Admin::connect(options()).grow(pool_, 8); });
        ask([this] { (void)Inspector::open(pool_, options()).status(); });
        ask([this] { (void)Inspector::open(pool_, options()).clients(); });
        ask([this] { (void)Inspector::open(pool_, options()).audit(); });
    }

    void endure(const std::function<void(std::span<std::uint64_t>)>& harm) const {
        const auto child = start_harm(harm);
        for (int round = 0; round < 6; ++round) {
            expect_service();
            ask_all();
            std::this_thread::sleep_for(std::chrono::milliseconds{100});
        }
        child->signal(SIGKILL);
    }

    // Once the harm is over and nobody is attached.
    void expect_mended() const {
        Admin admin = Admin::connect(options());
        eventually([&] {
            admin.reclaim(pool_);
            return admin.repair(pool_).clients == 0;
        });
        admin.repair(pool_);
        EXPECT_TRUE(admin.repair(pool_).mended.empty());
        const mempool::AuditReport audit = Inspector::open(pool_, options()).audit();
        EXPECT_TRUE(audit.findings.empty()) << audit.findings.front().text;
        const mempool::PoolStatus status = Inspector::open(pool_, options()).status();
        EXPECT_EQ(status.unknown, 0U);
        EXPECT_EQ(status.held, 0U);
        EXPECT_EQ(status.free + status.detached, status.slots);
        Client client = Client::attach(pool_, options());
        std::vector<Slot> slots(status.slots);
        EXPECT_EQ(client.get_bulk(slots), status.free);
    }

    static void eventually(const std::function<bool()>& holds) {
        for (int k = 0; k < 3000; ++k) {
            if (holds()) {
                return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
        FAIL() << "waited in vain";
    }

    const std::string pool_ = unique_pool("harmed");
    const std::string other_ = unique_pool("unharmed");
    DaemonProcess daemon_;
};

TEST_F(Hostile, RandomBytesOverAllOfAPoolHarmThatPoolAlone) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937_64 random(seed);
        endure([&](std::span<std::uint64_t> memory) {
            // Now a few words, now a stretch; numbers of all sizes, since small ones pass checks.
            const std::size_t length = random() % 64 == 0 ? random() % 4096 : random() % 8;
            const std::size_t at = random() % memory.size();
            for (std::size_t k = at; k < std::min(at + length, memory.size()); ++k) {
                write(memory[k], random() >> (random() % 64));
            }
        });
        expect_mended();
    }
    EXPECT_EQ(daemon_.terminate(), 0);
    daemon_.restart();
    expect_service();
    expect_mended();
}

// As random bytes never would: positions that send who follows them around for ever, cells that
// look popped when pushed to, and magazines that all want a hint.
TEST_F(Hostile, RingsThatAreRewrittenAllTheTimeHoldUpNobody) {
    constexpr std::size_t kWords = sizeof(std::uint64_t);
    const mempool::PoolStatus status = Inspector::open(pool_, options()).status();
    ASSERT_EQ(status.magazine_capacity, 4U);
    const std::uint64_t shards = status.shards;
    const auto geometry =
        *mempool::shm::make_geometry({.slot_size = 64,
                                      .max_slots = 1024,
                                      .magazine_capacity = 4,
                                      .client_count = 9,
                                      .shard_count = static_cast<std::uint16_t>(shards)});
    const std::size_t positions = geometry.rings_offset / kWords;
    const std::size_t rings = geometry.cells_offset / kWords;
    const std::size_t cells = geometry.records_offset / kWords;
    const std::size_t magazines = geometry.magazines_offset / kWords;
    const std::size_t stride = geometry.magazine_stride / kWords;
    std::mt19937_64 random(5);
    endure([&](std::span<std::uint64_t> memory) {
        const std::uint64_t filled = random() % 2 == 0 ? ~0U : 0;
        const std::uint64_t lap = random() % 3;
        for (std::size_t k = rings; k < cells; ++k) {
            write(memory[k], lap << 32U | filled);
        }
        for (std::size_t m = 1; m < geometry.magazine_count; ++m) {
            write(memory[magazines + m * stride], random() % 2 + 1);
        }
        for (int k = 0; k < 10'000; ++k) {
            for (std::size_t ring = 0; ring < geometry.ring_count(); ++ring) {
                write(memory[positions + ring * 16], lap * geometry.ring_capacity);
                write(memory[positions + ring * 16 + 8],
                      lap * geometry.ring_capacity + random() % 2 * (std::uint64_t{1} << 60U));
            }
        }
    });
    expect_mended();
}

// --- truncation ---------------------------------------------------------------------------------

class Truncated : public Hostile, public testing::WithParamInterface<int> {
protected:
    // Nothing, some bytes of the second page, half of it, all but the last byte of the slots.
    off_t length() const {
        const UniqueFd fd{::shm_open(mempool::shm::object_name(pool_, 0).c_str(), O_RDONLY, 0)};
        struct stat status {};
        EXPECT_EQ(::fstat(fd.get(), &status), 0);
        switch (GetParam()) {
            case 0:
                return 0;
            case 1:
                return 4096 + 17;
            case 2:
                return status.st_size / 2;
            default:
                return status.st_size - 1;
        }
    }
};

TEST_P(Truncated, APoolIsGivenUpAloneAndMadeAnewAtAReload) {
    // A client at work, which gets and writes slots again and again. Half of them: for more the
    // pool would grow, and have another object.
    Child worker([this](const Line& line) {
        std::signal(SIGBUS, SIG_DFL);  // a sanitizer's handler would exit instead
        Client client = Client::attach(pool_, options());
        line.say('!');
        std::vector<Slot> slots(128);
        for (;;) {
            for (Slot& slot : std::span(slots).first(client.get_bulk(slots))) {
                std::memset(slot.data(), 1, slot.size());
                slot.reset();
            }
        }
        return 0;
    });
    ASSERT_EQ(worker.line().hear(), '!');
    const std::string object = "/dev/shm" + mempool::shm::object_name(pool_, 0);
    ASSERT_EQ(::truncate(object.c_str(), length()), 0);
    if (GetParam() < 3) {
        EXPECT_EQ(worker.wait(), 128 + SIGBUS) << "what a client sees of it";
    } else {
        worker.signal(SIGKILL);  // what it lacks is the rest of a page, which reads as zeros
    }
    expect_service();
    daemon_.wait_for_log("pool '" + pool_ + "': somebody truncated its file");
    expect_service();
    EXPECT_THROW((void)Client::attach(pool_, options()), mempool::Error);
    EXPECT_THROW(Admin::connect(options()).repair(pool_), mempool::Error);
    daemon_.reload();
    eventually([this] {
        try {
            return static_cast<bool>(Client::attach(pool_, options()).get());
        } catch (const mempool::Error&) {
            return false;
        }
    });
    EXPECT_EQ(objects_of(pool_).size(), 2U) << "what was set aside stays";
    expect_service();
    EXPECT_EQ(daemon_.terminate(), 0);
}

INSTANTIATE_TEST_SUITE_P(ToLength, Truncated, testing::Values(0, 1, 2, 3));

TEST_F(Hostile, ATruncatedFurtherSegmentIsNoticed) {
    Admin::connect(options()).grow(pool_, 100);
    const std::string object = "/dev/shm/" + mempool_test::object_of(pool_, 1);
    ASSERT_EQ(::truncate(object.c_str(), 4096), 0);
    daemon_.wait_for_log("pool '" + pool_ + "': somebody truncated its file");
    expect_service();
}

}  // namespace
}  // namespace mempool_test
