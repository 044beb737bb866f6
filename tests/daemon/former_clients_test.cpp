// Who is said to use a pool of the former layout.
#include "daemon/supervision/former_clients.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/supervision/client_table.hpp"
#include "daemon/supervision/token.hpp"
#include "support/pool_objects.hpp"
#include "support/storage.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kToken = 7;
constexpr pid_t kNobody = 0x3fff'fff0;

ProcessId myself() {
    const UniqueFd pidfd = open_pidfd(::getpid());
    return identify(pidfd.get(), ::getpid());
}

// Of another pid namespace.
ProcessId unseen() { return {.pid = kNobody, .key = 5, .pid_namespace = 1, .time_namespace = 1}; }

// One that ran here and has ended.
ProcessId ended() {
    ProcessId id = myself();
    id.pid = kNobody;
    return id;
}

class FormerClients : public testing::Test {
protected:
    FormerClients()
        : storage_(create_storage(
              parse_pool(mempool_test::unique_pool("former") + ":64x16,backing=memfd", "test"), 1)),
          table_(storage_->view()) {
        storage_->view().header().layout_version = shm::kFormerLayoutVersion;
    }
    shm::ClientId add(const ProcessId& process) {
        ClientIdentity client;
        client.process = process;
        client.token_hash = hash_of_token(kToken);
        return *table_.add(client, 1);
    }
    shm::ClientRecord& record(shm::ClientId id) { return storage_->view().client(id); }
    shm::LaneRecord& home(shm::ClientId id) { return storage_->view().lane(shm::LaneId{raw(id)}); }
    int file() const { return storage_->segments().front().own.get(); }
    // Pids, and less than zero those of who is unseen.
    std::vector<pid_t> living(int of = -1,
                              std::chrono::milliseconds longest = std::chrono::hours{1}) const {
        const PoolStart::Look look = look_for_former_clients(
            reopen(of < 0 ? file() : of, false, "the pool"), store_, longest);
        auto clients = look();
        while (!clients) {
            clients = look();
        }
        std::vector<pid_t> pids;
        for (const FormerClient& client : *clients) {
            pids.push_back(client.seen ? client.pid : -client.pid);
        }
        return pids;
    }

    const std::unique_ptr<Storage> storage_;  // of which this process maps the metadata
    ClientTable table_;
    FdStore store_;
};

TEST_F(FormerClients, AreThoseWhoLiveAndThoseWhoCannotBeSeen) {
    EXPECT_THAT(living(), IsEmpty());
    add(myself());
    add(ended());
    add(unseen());
    EXPECT_THAT(living(), ElementsAre(::getpid(), -kNobody));
}

// A client can write as many records as there is room for, and each of them costs time.
TEST_F(FormerClients, WhoWasNotLookedAtInTimeCounts) {
    add(ended());
    add(myself());
    record(add(ended())).state = shm::ClientState::kDead;
    EXPECT_THAT(living(-1, std::chrono::milliseconds{0}),
                ElementsAre(-kNobody, -::getpid(), -kNobody));
    EXPECT_THAT(living(), ElementsAre(::getpid()));
}

TEST_F(FormerClients, WhoWentIsNoneUnlessItMapsThePool) {
    const shm::ClientId dead = add(unseen());
    record(dead).state = shm::ClientState::kDead;
    const shm::ClientId left = add(unseen());
    record(left).state = shm::ClientState::kLeaving;
    EXPECT_THAT(living(), ElementsAre(-kNobody)) << "anybody could have written that";
    home(left).farewell = kToken;
    EXPECT_THAT(living(), IsEmpty());
    record(add(myself())).state = shm::ClientState::kDead;
    EXPECT_THAT(living(), ElementsAre(::getpid()));
}

TEST_F(FormerClients, WhoUnmappedThePoolIsNone) {
    // A copy, which this process does not map.
    const shm::ClientId id = add(myself());
    std::vector<std::byte> bytes(storage_->geometry().slots_offset);
    const UniqueFd copy{::memfd_create("copy", MFD_CLOEXEC)};
    const auto living_of_copy = [&] {
        EXPECT_EQ(read_at(file(), bytes.data(), bytes.size(), 0), 0);
        EXPECT_EQ(::pwrite(copy.get(), bytes.data(), bytes.size(), 0),
                  static_cast<ssize_t>(bytes.size()));
        return living(copy.get());
    };
    EXPECT_THAT(living_of_copy(), ElementsAre(::getpid())) << "it may be about to map it";
    home(id).mapped_at = shm::kPage;
    EXPECT_THAT(living_of_copy(), IsEmpty());
    EXPECT_THAT(living(), ElementsAre(::getpid()));
}

TEST_F(FormerClients, APidfdThatWasKeptTellsWhatNumbersDoNot) {
    const pid_t child = ::fork();
    if (child == 0) {
        for (;;) {
            ::pause();
        }
    }
    const shm::ClientId id = add(unseen());
    FdStore::Descriptors passed;
    passed.emplace_back(fmt::format("c.{:016x}.{}.{}", storage_->key(), raw(id), table_.epoch(id)),
                        open_pidfd(child));
    store_ = FdStore(passed);
    EXPECT_THAT(living(), ElementsAre(kNobody));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_THAT(living(), IsEmpty());
    EXPECT_TRUE(store_.take_client({storage_->key(), raw(id), table_.epoch(id)}))
        << "it stays there";
}

TEST_F(FormerClients, OfAHeaderThatMakesNoSenseCannotBeTold) {
    shm::Header& header = storage_->view().header();
    const shm::Geometry sound = header.geometry;
    for (const std::uint32_t count : {~0U, shm::kMaxClients}) {
        header.geometry.shape.client_count = count;
        EXPECT_THROW(living(), std::runtime_error) << count;
    }
    header.geometry = sound;
    for (const std::uint64_t offset : {~std::uint64_t{0}, std::uint64_t{1} << 50U}) {
        header.geometry.clients_offset = offset;
        EXPECT_THROW(living(), std::runtime_error) << offset;
    }
}

}  // namespace
}  // namespace mempoold
