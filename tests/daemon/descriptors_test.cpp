// Descriptors: what a peer sends along, what it leaves unread, and what happens when none is left.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "mempool/shm/words/unique_fd.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempoold {
namespace {

namespace shm = mempool::shm;
using shm::UniqueFd;
using testing::HasSubstr;

constexpr uid_t kOther = 54321;

void check(bool holds, const std::string& what) {
    if (!holds) {
        throw std::runtime_error("not so: " + what);
    }
}

void turn_into(uid_t uid) { check(::setgid(uid) == 0 && ::setuid(uid) == 0, "setuid"); }

bool says(const std::optional<shm::Reply>& reply, const std::string& text) {
    return reply && std::string(shm::text_of(reply->text)).find(text) != std::string::npos;
}

bool is_served(const std::string& socket) {
    RawClient client(socket);
    const auto reply = client.ask(make_request(RequestKind::kStatus));
    return reply && reply->error == 0;
}

// Makes the kernel one that does not know SO_PASSRIGHTS, for this process and its children.
bool forget_pass_rights() {
    constexpr unsigned kSoPassRights = 83;
    std::array<sock_filter, 6> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSoPassRights, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog filter{program.size(), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// A TCP socket whose last close() takes minutes, and the end that keeps it so.
struct LingeringSocket {
    UniqueFd socket;
    UniqueFd peer;

    LingeringSocket() {
        const UniqueFd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_in here{};
        here.sin_family = AF_INET;
        here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(here);
        check(::bind(listener.get(), reinterpret_cast<sockaddr*>(&here), size) == 0 &&
                  ::listen(listener.get(), 1) == 0 &&
                  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&here), &size) == 0,
              "a port");
        socket.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        check(::connect(socket.get(), reinterpret_cast<sockaddr*>(&here), size) == 0, "connect");
        peer.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const std::vector<char> bytes(65536);
        while (::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
        }
        const linger on{1, 300};
        check(::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &on, sizeof(on)) == 0, "linger");
    }
};

class DescriptorsTest : public testing::Test {
protected:
    std::string socket() const { return daemon_.socket_path(); }
    void limit_descriptors(rlim_t most) const {
        const rlimit limit{most, most};
        ASSERT_EQ(::prlimit(daemon_.pid(), RLIMIT_NOFILE, &limit, nullptr), 0);
    }

    const std::string pool_ = mempool_test::unique_pool("descriptors");
    mempool_test::DaemonProcess daemon_;
};

// As root: these are about other users.
class UsersDescriptorsTest : public DescriptorsTest {
protected:
    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP() << "not root";
        }
        ASSERT_EQ(::chmod(daemon_.directory().c_str(), 0755), 0);
    }
};

TEST_F(DescriptorsTest, OneThatIsSentAlongHoldsUpNobodyWhateverTheKernel) {
    for (const bool old_kernel : {false, true}) {
        const ChildProcess child([&] {
            check(!old_kernel || forget_pass_rights(), "a seccomp filter");
            mempool_test::DaemonProcess daemon;
            daemon.start({"--pool", pool_ + ":64x64"});
            LingeringSocket lingering;
            RawClient received(daemon.socket_path());
            RawClient unread(daemon.socket_path());
            RawClient after_goodbye(daemon.socket_path());
            check(is_served(daemon.socket_path()), "served before");
            daemon.stop();
            int error = received.send(make_request(RequestKind::kStatus), lingering.socket.get());
            // Never received: its connection is closed before.
            unread.send_bytes("nonsense");
            error += unread.send(make_request(RequestKind::kStatus), lingering.socket.get());
            after_goodbye.send_bytes("");
            error += after_goodbye.send(make_request(RequestKind::kStatus), lingering.socket.get());
            check(error == 0 || !old_kernel, "sent, or refused by the kernel");
            if (error != 0) {
                lingering.peer.reset();  // else our own close() is the last
            }
            lingering.socket.reset();
            daemon.cont();
            check(error != 0 || received.is_closed(), "who sends a descriptor is closed");
            check(unread.is_closed(), "who sends nonsense is closed");
            for (int k = 0; k < 10; ++k) {
                check(is_served(daemon.socket_path()), "served");
            }
        });
    }
}

TEST_F(DescriptorsTest, WhenTheyRunOutClientsAreToldWhyAndAnOperatorIsServed) {
    std::vector<std::string> arguments;
    for (int k = 0; k < 20; ++k) {
        arguments.insert(arguments.end(),
                         {"--pool", mempool_test::unique_pool("descriptors") + ":64x64"});
    }
    arguments.insert(arguments.end(), {"--pool", pool_ + ":64x64,max_clients=1000"});
    daemon_.start(arguments);
    limit_descriptors(160);
    std::vector<std::unique_ptr<RawClient>> clients;
    std::optional<shm::Reply> reply;
    do {
        clients.push_back(std::make_unique<RawClient>(socket()));
        reply = clients.back()->ask(make_request(RequestKind::kAttach, pool_));
        ASSERT_TRUE(reply);
    } while (reply->error == 0 && clients.size() < 200);
    EXPECT_GT(clients.size(), 10U);
    EXPECT_EQ(reply->error, EMFILE);
    EXPECT_TRUE(says(reply, "raise LimitNOFILE")) << shm::text_of(reply->text);
    EXPECT_TRUE(is_served(socket()));
    // And once some have ended, others come in.
    clients.resize(clients.size() / 2);
    EXPECT_TRUE(eventually([&] {
        RawClient next(socket());
        const auto answer = next.ask(make_request(RequestKind::kAttach, pool_));
        return answer && answer->error == 0;
    }));
}

TEST_F(DescriptorsTest, WhoConnectsWhenThereIsNoneLeftIsToldSo) {
    daemon_.start({"--pool", pool_ + ":64x64"});
    limit_descriptors(64);
    std::vector<std::unique_ptr<RawClient>> silent;
    std::optional<shm::Reply> reply;
    for (int k = 0; k < 80 && !(reply && reply->error != 0); ++k) {
        silent.push_back(std::make_unique<RawClient>(socket()));
        reply = silent.back()->ask(make_request(RequestKind::kStatus));
    }
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EMFILE);
    EXPECT_TRUE(says(reply, "raise LimitNOFILE")) << shm::text_of(reply->text);
    silent.clear();
    EXPECT_TRUE(eventually([&] { return is_served(socket()); }));
}

TEST_F(DescriptorsTest, OneWhoDoesNotReadGetsOneDescriptorAndNoMore) {
    daemon_.start({"--pool", pool_ + ":64x64"});
    RawClient greedy(socket());
    ASSERT_EQ(greedy.send(make_request(RequestKind::kAttach, pool_)), 0);
    for (int k = 0; k < 5; ++k) {
        greedy.send(make_request(RequestKind::kSegment));
    }
    daemon_.wait_for_log("has not read its last replies");
    int descriptors = 0;
    UniqueFd passed;
    while (greedy.receive(&passed)) {
        descriptors += passed ? 1 : 0;
        passed.reset();
    }
    EXPECT_EQ(descriptors, 1);
}

TEST_F(UsersDescriptorsTest, AClosedConnectionCountsUntilItsDescriptorIsRead) {
    daemon_.start({"--pool", pool_ + ":64x64,allow_users=*", "--max-connections-per-user", "1"});
    const ChildProcess child([&] {
        turn_into(kOther);
        RawClient first(socket());
        first.send(make_request(RequestKind::kAttach, pool_));
        first.send_bytes("nonsense");
        pollfd over{first.fd(), POLLRDHUP, 0};
        check(::poll(&over, 1, 60000) == 1, "the daemon ends the connection");
        RawClient refused(socket());
        const auto reply = refused.receive();
        check(says(reply, "raise max_connections_per_user"), "its only connection is not over");
        check(first.is_closed(), "reads all");
        check(eventually([&] { return is_served(socket()); }), "now it is over");
    });
}

TEST_F(UsersDescriptorsTest, TooManyUnreadOnesOfTheDaemonsUserAreNamed) {
    const ChildProcess child([&] {
        const rlimit limit{128, 128};
        check(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "a limit");
        turn_into(kOther);
        mempool_test::DaemonProcess daemon;
        daemon.start({"--pool", mempool_test::unique_pool("descriptors") + ":64x64", "--pool",
                      pool_ + ":64x64", "--remove-on-exit"});
        std::array<int, 2> ends{};
        check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0, "a pair");
        const UniqueFd writer{ends[0]};
        const UniqueFd reader{ends[1]};
        int sent = 0;
        for (; sent < 200; ++sent) {
            if (shm::send_message(writer.get(), make_request(RequestKind::kStatus), reader.get(),
                                  MSG_DONTWAIT) != 0) {
                break;
            }
        }
        check(sent > 128, "as many in flight as the limit allows: " + std::to_string(sent));
        RawClient client(daemon.socket_path());
        const auto reply = client.ask(make_request(RequestKind::kAttach, pool_));
        check(reply && reply->error == ETOOMANYREFS && says(reply, "raise LimitNOFILE"),
              "ETOOMANYREFS");
        check(is_served(daemon.socket_path()), "served");
        check(daemon.terminate() == 0, "ends");
    });
}

}  // namespace
}  // namespace mempoold
