// Attaching: everything a daemon or a pool can do wrong ends in an Error that says what to do.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

#include "client/fixture.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/wire.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::shm::Header;
using mempool::shm::RequestKind;
using mempool::shm::payload::Attachment;
using mempool::shm::payload::put;
using std::chrono::milliseconds;

/// Changes the answer to kAttach only.
FakeDaemon::Twist at_attach(std::function<void(Answer&)> change) {
    return [change = std::move(change)](const mempool::shm::Request& request, Answer& answer) {
        if (request.kind == RequestKind::kAttach) {
            change(answer);
        }
    };
}

TEST(Attach, GivesAClientOfThatPool) {
    const Served served;
    const Client client = served.attach();
    EXPECT_EQ(client.pool(), served.pool.name());
    EXPECT_EQ(client.slot_size(), 128U);
    EXPECT_EQ(client.id(), 1U);
    EXPECT_NE(client.base(), nullptr);
}

TEST(Attach, SaysHowToStartADaemonThatDoesNotRun) {
    const TemporaryDirectory directory;
    const std::string socket = directory.path() + "/none.sock";
    expect_error(ENOENT, "mempoold is not running (no socket at " + socket + "): start it",
                 [&] { static_cast<void>(Client::attach("x", {.socket = socket})); });
}

TEST(Attach, SaysThatNobodyListens) {
    Served served;
    const mempool::AttachOptions options = served.daemon.options();
    served.daemon.stop();
    const std::ofstream leftover(options.socket);
    expect_error(ECONNREFUSED, "nobody listens",
                 [&] { static_cast<void>(Client::attach(served.pool.name(), options)); });
}

TEST(Attach, FindsTheSocketInTheEnvironment) {
    const Served served;
    ::setenv("MEMPOOL_SOCKET", served.daemon.socket_path().c_str(), 1);
    EXPECT_NO_THROW(static_cast<void>(Client::attach(served.pool.name())));
    ::unsetenv("MEMPOOL_SOCKET");
}

TEST(Attach, RefusesASocketPathThatIsTooLong) {
    expect_error(ENAMETOOLONG, "shorter", [] {
        static_cast<void>(Client::attach("x", {.socket = "/" + std::string(200, 's')}));
    });
}

TEST(Attach, RefusesASocketOfAnotherKind) {
    const TemporaryDirectory directory;
    const std::string path = directory.path() + "/stream.sock";
    const mempool::shm::UniqueFd other{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    mempool::shm::copy_text(address.sun_path, path);
    ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(other.get(), 1), 0);
    expect_error(EPROTOTYPE, "another kind",
                 [&] { static_cast<void>(Client::attach("x", {.socket = path})); });
}

TEST(Attach, RefusesABadPoolNameWithoutAskingAnybody) {
    const FakeDaemon daemon;
    for (const char* name : {"", "a/b", "a.b", "a b"}) {
        expect_error(EINVAL, "name",
                     [&] { static_cast<void>(Client::attach(name, daemon.options())); });
    }
    EXPECT_EQ(daemon.seen(RequestKind::kAttach), 0U);
}

TEST(Attach, PassesOnWhatTheDaemonRefuses) {
    const FakeDaemon daemon;
    expect_error(ENOENT, "the fake daemon has no such pool",
                 [&] { static_cast<void>(Client::attach("none", daemon.options())); });
}

TEST(Attach, IsRefusedWhenThePoolHasTooManyClients) {
    const Served served({.client_count = 2});
    const Client first = served.attach();
    expect_error(EUSERS, "no place", [&] { static_cast<void>(served.attach()); });
}

TEST(Attach, TakesAnErrorNumberThatIsNoneForABrokenDaemon) {
    const Served served({}, at_attach([](Answer& a) { a.reply.error = -5; }));
    expect_error(EPROTO, "refused", [&] { static_cast<void>(served.attach()); });
}

TEST(Attach, DoesNotWaitForeverForASilentDaemon) {
    const Served served({}, at_attach([](Answer& a) { a.silent = true; }));
    expect_error(ETIMEDOUT, "does not answer", [&] {
        static_cast<void>(Client::attach(served.pool.name(), {.socket = served.daemon.socket_path(),
                                                              .timeout = milliseconds{30}}));
    });
}

TEST(Attach, DoesNotWaitForeverForADaemonThatDoesNotAccept) {
    const TemporaryDirectory directory;
    const std::string path = directory.path() + "/full.sock";
    const mempool::shm::UniqueFd listener{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    mempool::shm::copy_text(address.sun_path, path);
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(listener.get(), 0), 0);
    const mempool::shm::UniqueFd first{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    ASSERT_EQ(::connect(first.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    for (const int timeout_ms : {0, 30, -7}) {
        expect_error(ETIMEDOUT, "in time", [&] {
            static_cast<void>(
                Client::attach("x", {.socket = path, .timeout = milliseconds{timeout_ms}}));
        });
    }
}

TEST(Attach, SaysThatTheDaemonClosedTheConnection) {
    const Served served({}, at_attach([](Answer& a) { a.close = true; }));
    expect_error(ECONNRESET, "closed the connection", [&] { static_cast<void>(served.attach()); });
    EXPECT_EQ(served.daemon.seen(RequestKind::kAttach), 2U);
}

TEST(Attach, WhatADaemonLeavesUnansweredItsSuccessorIsAsked) {
    const Served served({}, at_attach([first = true](Answer& a) mutable {
                            a.close = std::exchange(first, false);
                        }));
    const Client client = served.attach();
    EXPECT_EQ(served.daemon.seen(RequestKind::kAttach), 2U);
}

TEST(Attach, ItsSuccessorKnowsAClientThatWasAnsweredInPart) {
    const Served served(
        {}, [first = true](const mempool::shm::Request& request, Answer& a) mutable {
            a.close = request.kind == RequestKind::kStatus && std::exchange(first, false);
        });
    const Client client = served.attach();
    EXPECT_EQ(client.id(), 1U);
    EXPECT_EQ(served.daemon.seen(RequestKind::kAttach), 1U);
    EXPECT_EQ(served.daemon.seen(RequestKind::kResume), 1U);
}

TEST(Attach, WithoutASuccessorItSaysThatTheDaemonClosedTheConnection) {
    std::atomic<const FakeDaemon*> daemon = nullptr;
    Served served({}, at_attach([&daemon](Answer& a) {
                      ::unlink(daemon.load()->socket_path().c_str());
                      a.close = true;
                  }));
    daemon = &served.daemon;
    expect_error(ECONNRESET, "closed the connection", [&] { static_cast<void>(served.attach()); });
}

TEST(Attach, RefusesRepliesThatAreNotMempoolds) {
    const std::vector<std::pair<FakeDaemon::Twist, std::string>> cases{
        {at_attach([](Answer& a) { a.reply.magic = 1; }), "not mempoold's"},
        {at_attach([](Answer& a) { a.bytes = 100; }), "not mempoold's"},
        {at_attach([](Answer& a) { a.reply.version = 9; }), "version 9"},
        {at_attach([](Answer& a) { a.reply.kind = RequestKind::kList; }), "another question"},
        {at_attach([](Answer& a) { a.fd = -1; }), "passed no memory"},
        {at_attach([](Answer& a) { put(a.reply, Attachment{.client = 0}); }), "out of range"},
        {at_attach([](Answer& a) { put(a.reply, Attachment{.client = ~0ULL}); }), "out of range"},
        {at_attach([](Answer& a) { a.fd = STDERR_FILENO; }), "cannot be used"},
    };
    for (const auto& [twist, text] : cases) {
        const Served served({}, twist);
        SCOPED_TRACE(text);
        if (text == "cannot be used") {
            // Whatever stderr is, it is no pool.
            EXPECT_THROW(static_cast<void>(served.attach()), mempool::Error);
        } else {
            expect_error(EPROTO, text, [&] { static_cast<void>(served.attach()); });
        }
    }
}

TEST(Attach, RefusesDescriptorsThatAreNoPool) {
    const mempool::shm::UniqueFd empty{::memfd_create("empty", MFD_CLOEXEC)};
    const mempool::shm::UniqueFd zeros{::memfd_create("zeros", MFD_CLOEXEC)};
    ASSERT_EQ(::ftruncate(zeros.get(), 1 << 20), 0);
    const mempool::shm::UniqueFd noise{::memfd_create("noise", MFD_CLOEXEC)};
    const std::string bytes(1 << 16, 'n');
    ASSERT_EQ(::write(noise.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    const std::vector<std::tuple<int, int, std::string>> cases{
        {empty.get(), EAGAIN, "is being created"},
        {zeros.get(), EAGAIN, "is being created"},
        {noise.get(), EPROTO, "magic"},
    };
    for (const auto& [fd, error, text] : cases) {
        const Served served({}, at_attach([fd = fd](Answer& a) { a.fd = fd; }));
        expect_error(error, text, [&] { static_cast<void>(served.attach()); });
    }
}

TEST(Attach, RefusesHeadersItDoesNotUnderstand) {
    const std::vector<std::pair<std::function<void(Header&)>, std::string>> cases{
        {[](Header& h) { h.layout_version = 77; }, "layout version is 77"},
        {[](Header& h) { h.layout_version = mempool::shm::kFormerLayoutVersion; },
         "layout version is 2, this build knows 3: use the matching release"},
        {[](Header& h) { h.incompat = 4; }, "incompat mask 4"},
        {[](Header& h) { h.ro_compat = 8; }, "ro_compat mask 8"},
        {[](Header& h) { h.fingerprint = 0; }, "fingerprint"},
        {[](Header& h) { h.class_count = 3; }, "size classes"},
        {[](Header& h) { h.geometry.slots_offset += 4096; }, "contradict"},
        {[](Header& h) { h.geometry.shape.max_slots = ~0U; }, "contradict"},
        {[](Header& h) { std::memset(h.name, 'x', sizeof(h.name)); }, "not terminated"},
        {[](Header& h) { h.name[0] = '~'; }, "renamed or copied"},
    };
    for (const auto& [spoil, text] : cases) {
        const Served served;
        spoil(served.pool.pool().header());
        expect_error(EPROTO, text, [&] { static_cast<void>(served.attach()); });
        // The place it was given is given back.
        served.daemon.wait_for(RequestKind::kBye);
        EXPECT_EQ(served.daemon.proved_goodbyes(), 1U);
    }
}

TEST(Attach, RefusesAPoolThatIsNotReady) {
    const Served served;
    served.pool.pool().header().state.store(mempool::shm::PoolState::kCreating);
    expect_error(EAGAIN, "is being created", [&] { static_cast<void>(served.attach()); });
}

TEST(Attach, RefusesASegmentTableThatMakesNoSense) {
    const Served served;
    served.pool.pool().segment(0).slot_count = ~0U;
    expect_error(EPROTO, "segment table entry 0", [&] { static_cast<void>(served.attach()); });
    served.pool.pool().live().segment_count.store(0);
    expect_error(EPROTO, "no segment", [&] { static_cast<void>(served.attach()); });
}

TEST(Attach, RefusesATruncatedObjectInsteadOfFaulting) {
    const FakePool pool({.slots = 4096});
    // Serves no pool, so that it does not look into the one that is cut short.
    const FakeDaemon daemon({}, at_attach([&](Answer& a) {
                                a.reply.error = 0;
                                put(a.reply, Attachment{.client = 1});
                                a.fd = pool.segment(0);
                            }));
    const auto attach = [&] { static_cast<void>(Client::attach(pool.name(), daemon.options())); };
    const std::uint64_t metadata = pool.pool().geometry().slots_offset;
    for (const std::uint64_t bytes : {metadata + 4096, metadata - 4096, std::uint64_t{4096}}) {
        pool.truncate(bytes);
        expect_error(EPROTO, "truncated", attach);
    }
    pool.truncate(100);
    expect_error(EAGAIN, "is being created", attach);
}

TEST(Attach, LeavesWithLeavingInItsRecordAndABye) {
    Served served;
    {
        const Client client = served.attach();
        EXPECT_EQ(served.pool.pool().client(mempool::shm::ClientId{1}).state.load(),
                  mempool::shm::ClientState::kActive);
    }
    served.daemon.wait_for(RequestKind::kBye);
    EXPECT_EQ(served.daemon.proved_goodbyes(), 1U);
    EXPECT_EQ(served.pool.pool().client(mempool::shm::ClientId{1}).state.load(),
              mempool::shm::ClientState::kLeaving);
    EXPECT_EQ(served.pool.lanes_in_use(), 0U);
}

TEST(Attach, LeavesItsTokenInItsHomeLaneSinceTheDaemonMayBeDown) {
    const Served served;
    const auto& lane = served.pool.pool().lane(mempool::shm::LaneId{1});
    {
        const Client client = served.attach();
        EXPECT_EQ(lane.farewell.load(), 0U);
    }
    EXPECT_EQ(lane.farewell.load(), FakeDaemon::token_of(mempool::shm::ClientId{1}));
}

TEST(Attach, IsUnmappedWhenItSaysGoodbye) {
    std::atomic<void*> base{nullptr};
    std::atomic<int> error{0};
    const Served served({}, [&](const mempool::shm::Request& request, Answer&) {
        if (request.kind == RequestKind::kBye) {
            error = ::msync(base.load(), mempool::shm::kPage, MS_ASYNC) == 0 ? 0 : errno;
        }
    });
    {
        const Client client = served.attach();
        base = client.base();
    }
    served.daemon.wait_for(RequestKind::kBye);
    EXPECT_EQ(error.load(), ENOMEM);  // nothing is mapped there
}

TEST(Attach, ShowsItsTokenToTheDaemonsSuccessor) {
    Served served({.slots = 64, .max_slots = 1024});
    {
        Client client = served.attach();
        served.daemon.stop();
        served.daemon.start();
        const std::vector<mempool::Slot> all = get_all(client);
        while (served.daemon.seen(RequestKind::kWantMore) == 0) {
            served.pool.pool().live().grow_wanted.store(0);  // a lost connection is not tried often
            EXPECT_FALSE(client.get());
        }
    }
    served.daemon.wait_for(RequestKind::kBye);
    EXPECT_EQ(served.daemon.seen(RequestKind::kResume), 1U);
    EXPECT_EQ(served.daemon.proved_goodbyes(), 1U);
}

TEST(Attach, LeavesWithoutADaemonToo) {
    Served served;
    {
        Client client = served.attach();
        const mempool::Slot slot = client.get();
        EXPECT_TRUE(slot);
        served.daemon.stop();
    }
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Attach, KeepsThePoolOutOfCores) {
    Served served({.slots = 64, .max_slots = 1024});
    served.pool.grow(64);
    const Client client = served.attach();
    const auto first = reinterpret_cast<std::uintptr_t>(client.base());
    const auto last = first + served.pool.pool().geometry().range_bytes;
    std::ifstream maps("/proc/self/smaps");
    bool ours = false;
    int dumped = 0;
    int kept_out = 0;
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t from = 0;
        std::uintptr_t to = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
            ours = from >= first && to <= last;
        } else if (ours && line.starts_with("VmFlags:")) {
            ++(line.find(" dd") == std::string::npos ? dumped : kept_out);
        }
    }
    EXPECT_EQ(dumped, 0);
    EXPECT_GE(kept_out, 2);  // at least what is mapped, and what is reserved
}

template <typename T>
bool is_tagged() {
    return std::string_view(typeid(T).name()).find("B5cxx11") != std::string_view::npos;
}

TEST(PublicTypes, ThatHoldStringsHaveTheStringsAbiInTheirNames) {
    if (!is_tagged<std::string>() &&
        std::string_view(typeid(std::string).name()).find("__cxx11") == std::string_view::npos) {
        GTEST_SKIP() << "this standard library has one string only, or this is the old one";
    }
    EXPECT_TRUE(is_tagged<mempool::AttachOptions>());
    EXPECT_TRUE(is_tagged<mempool::PoolStatus>());
    EXPECT_TRUE(is_tagged<mempool::ClientInfo>());
    EXPECT_TRUE(is_tagged<mempool::SegmentInfo>());
    EXPECT_TRUE(is_tagged<mempool::SlotInfo>());
    EXPECT_TRUE(is_tagged<mempool::AuditFinding>());
    EXPECT_TRUE(is_tagged<mempool::AuditReport>());
    EXPECT_TRUE(is_tagged<mempool::FoundPool>());
    EXPECT_TRUE(is_tagged<mempool::RepairReport>());
    EXPECT_TRUE(is_tagged<mempool::RepairReport::Mended>());
}

TEST(Attach, AMovedClientGoesOn) {
    const Served served;
    Client first = served.attach();
    Client second = std::move(first);
    mempool::Slot slot = second.get();
    EXPECT_TRUE(slot);
    slot.reset();
    second = served.attach();  // ends the first attachment
    EXPECT_EQ(second.id(), 2U);
    EXPECT_TRUE(second.get());
}

}  // namespace
}  // namespace mempool_test
