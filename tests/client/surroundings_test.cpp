// What the program, its caller or its user does around the library: closes descriptors and reuses
// their numbers, has none left, cancels threads, sends signals, exits with threads at work.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client/fixture.hpp"
#include "client/in_child.hpp"
#include "client/trusted_path.hpp"
#include "mempool/shm/wire.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Slot;
using mempool::shm::RequestKind;
using mempool::shm::UniqueFd;
using std::chrono::milliseconds;

/// A pool that may grow: a client that finds it empty talks to the daemon.
const FakePoolOptions kGrowing{.slots = 16, .max_slots = 1024};

/// Asks the daemon for growth, for longer than the pause between two connections.
void ask_for_growth(const Served& served, Client& client) {
    const auto end = std::chrono::steady_clock::now() + milliseconds{150};
    while (std::chrono::steady_clock::now() < end) {
        served.pool.pool().live().grow_wanted.store(0);
        static_cast<void>(client.get());
        std::this_thread::sleep_for(milliseconds{5});  // else the daemon's queue fills up
    }
}

TEST(Descriptors, OfTheLibraryAreAboveThoseOfStdio) {
    const Served served(kGrowing);
    EXPECT_EQ(in_child([&] {
                  for (int fd = 0; fd < 3; ++fd) {
                      ::close(fd);
                  }
                  Client client = served.attach();
                  const std::vector<Slot> all = get_all(client);
                  for (int fd = 0; fd < 3; ++fd) {
                      MEMPOOL_CHECK(::fcntl(fd, F_GETFD) == -1);
                  }
                  return 0;
              }),
              0);
}

TEST(Descriptors, WhoseNumberTheProgramTookAreLeftAlone) {
    const Served served(kGrowing);
    for (const int kind : {SOCK_STREAM, SOCK_SEQPACKET}) {
        EXPECT_EQ(
            in_child([&] {
                std::optional<Client> client = served.attach();
                ::closefrom(3);
                std::array<int, 2> mine{};
                MEMPOOL_CHECK(::socketpair(AF_UNIX, kind, 0, mine.data()) == 0);
                constexpr std::string_view kPrecious = "of the program";
                MEMPOOL_CHECK(::write(mine[0], kPrecious.data(), kPrecious.size()) > 0);
                MEMPOOL_CHECK(::write(mine[1], kPrecious.data(), kPrecious.size()) > 0);
                const std::vector<Slot> all = get_all(*client);
                ask_for_growth(served, *client);
                client.reset();
                for (const int end : mine) {
                    std::array<char, 4096> bytes{};
                    const ssize_t got = ::recv(end, bytes.data(), bytes.size(), MSG_DONTWAIT);
                    MEMPOOL_CHECK(got == static_cast<ssize_t>(kPrecious.size()));
                    MEMPOOL_CHECK(std::string_view(bytes.data(), kPrecious.size()) == kPrecious);
                    MEMPOOL_CHECK(::recv(end, bytes.data(), 1, MSG_DONTWAIT) == -1);
                    MEMPOOL_CHECK(errno == EAGAIN);  // neither more bytes nor closed
                }
                return 0;
            }),
            0);
    }
    served.daemon.wait_for(RequestKind::kBye, 2);
    EXPECT_GE(served.daemon.seen(RequestKind::kResume), 2U);  // over connections made again
    EXPECT_EQ(served.daemon.proved_goodbyes(), 2U);
}

TEST(Descriptors, AFileThatTookTheNumberStaysOpen) {
    const Served served;
    EXPECT_EQ(in_child([&] {
                  std::optional<Client> client = served.attach();
                  ::closefrom(3);
                  const int file = ::open("/dev/null", O_WRONLY);
                  MEMPOOL_CHECK(file >= 0);
                  client.reset();
                  MEMPOOL_CHECK(::fcntl(file, F_GETFD) != -1);
                  return 0;
              }),
              0);
}

TEST(Descriptors, WithoutRoomForThemAttachSaysWhatToRaise) {
    const Served served;
    EXPECT_EQ(in_child([&] {
                  const rlimit limit{64, 64};
                  MEMPOOL_CHECK(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
                  std::vector<int> taken;
                  for (int fd = 0; (fd = ::open("/dev/null", O_RDONLY)) >= 0;) {
                      taken.push_back(fd);
                  }
                  bool attached = false;
                  for (std::size_t spare = 0; spare < 4; ++spare) {
                      try {
                          Client client = served.attach();
                          MEMPOOL_CHECK(client.get());
                          attached = true;
                      } catch (const mempool::Error& e) {
                          MEMPOOL_CHECK(!attached && spare < 3);
                          MEMPOOL_CHECK(e.code().value() == EMFILE);
                          MEMPOOL_CHECK(std::strstr(e.what(), "ulimit -n") != nullptr);
                      }
                      ::close(taken.back());
                      taken.pop_back();
                  }
                  MEMPOOL_CHECK(attached);
                  return 0;
              }),
              0);
    // Whoever got a place, and could not use it, has given it back.
    served.daemon.wait_for(RequestKind::kBye, served.daemon.seen(RequestKind::kAttach));
    EXPECT_EQ(served.daemon.proved_goodbyes(), served.daemon.seen(RequestKind::kAttach));
}

/// Runs `call` in a thread that was cancelled a moment ago; whether it ended by that.
template <typename Call>
bool is_cancelled_after(Call call) {
    pthread_t thread{};
    const auto run = [](void* what) -> void* {
        ::pthread_cancel(::pthread_self());
        (*static_cast<Call*>(what))();
        ::pthread_testcancel();
        return nullptr;
    };
    if (::pthread_create(&thread, nullptr, run, &call) != 0) {
        return false;
    }
    void* result = nullptr;
    ::pthread_join(thread, &result);
    return result == PTHREAD_CANCELED;
}

TEST(Cancellation, IsPutOffUntilACallHasReturned) {
    const Served served(kGrowing);
    Client client = served.attach();
    const std::vector<Slot> all = get_all(client);
    int done = 0;
    served.pool.pool().live().grow_wanted.store(0);
    EXPECT_TRUE(is_cancelled_after([&] {
        EXPECT_FALSE(client.get());
        ++done;
    }));
    EXPECT_TRUE(is_cancelled_after([&] {
        std::error_code error;
        EXPECT_FALSE(client.get_for(milliseconds{20}, error));
        EXPECT_EQ(error, Errc::kTimedOut);
        ++done;
    }));
    EXPECT_TRUE(is_cancelled_after([&] {
        Client other = served.attach();
        EXPECT_FALSE(other.get());
        ++done;
    }));
    EXPECT_EQ(done, 3);
    served.daemon.wait_for(RequestKind::kBye);
}

TEST(Cancellation, OfAThreadThatMapsASegmentIsPutOff) {
    Served served(kGrowing);
    Client client = served.attach();
    const std::vector<Slot> all = get_all(client);
    served.pool.grow(16, false);
    bool got = false;
    EXPECT_TRUE(is_cancelled_after([&] { got = bool(client.get()); }));
    EXPECT_TRUE(got);
}

/// A timer that interrupts each system call of the process every millisecond, while it lives.
class SignalStorm {
public:
    SignalStorm() {
        struct sigaction action {};
        action.sa_handler = [](int) {};  // no SA_RESTART
        ::sigaction(SIGALRM, &action, nullptr);
        set(1000);
    }
    SignalStorm(const SignalStorm&) = delete;
    SignalStorm& operator=(const SignalStorm&) = delete;
    ~SignalStorm() { set(0); }

private:
    static void set(suseconds_t period) {
        const itimerval timer{{0, period}, {0, period}};
        ::setitimer(ITIMER_REAL, &timer, nullptr);
    }
};

TEST(Signals, DoNotProlongAConnect) {
    const TemporaryDirectory directory;
    const std::string path = directory.path() + "/full.sock";
    const UniqueFd listener{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    mempool::shm::copy_text(address.sun_path, path);
    const auto* place = reinterpret_cast<const sockaddr*>(&address);
    ASSERT_EQ(::bind(listener.get(), place, sizeof(address)), 0);
    ASSERT_EQ(::listen(listener.get(), 0), 0);
    const UniqueFd first{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    ASSERT_EQ(::connect(first.get(), place, sizeof(address)), 0);
    EXPECT_EQ(in_child([&] {
                  const SignalStorm storm;
                  try {
                      static_cast<void>(
                          Client::attach("x", {.socket = path, .timeout = milliseconds{50}}));
                  } catch (const mempool::Error& e) {
                      return e.code().value() == ETIMEDOUT ? 0 : 1;
                  }
                  return 2;
              }),
              0);
}

TEST(Signals, DoNotProlongAWait) {
    const Served served({.slots = 4});
    const Served silent({}, [](const mempool::shm::Request&, Answer& a) { a.silent = true; });
    EXPECT_EQ(in_child([&] {
                  const SignalStorm storm;
                  Client client = served.attach();
                  const std::vector<Slot> all = get_all(client);
                  std::error_code error;
                  MEMPOOL_CHECK(!client.get_for(milliseconds{50}, error));
                  MEMPOOL_CHECK(error == Errc::kTimedOut);
                  try {
                      mempool::AttachOptions options = silent.daemon.options();
                      options.timeout = milliseconds{50};
                      static_cast<void>(Client::attach(silent.pool.name(), options));
                  } catch (const mempool::Error& e) {
                      return e.code().value() == ETIMEDOUT ? 0 : 1;
                  }
                  return 2;
              }),
              0);
}

TEST(Exit, WithThreadsAtWorkOnAStaticClientIsClean) {
    for (int round = 0; round < 20; ++round) {
        const Served served({.slots = 8, .client_count = 2});
        EXPECT_EQ(in_child([&] {
                      static Client client = served.attach();
                      for (int k = 0; k < 8; ++k) {
                          std::thread([k] {
                              for (;;) {
                                  const Slot slot =
                                      k % 2 == 0 ? client.get_for(milliseconds{50}) : client.get();
                                  std::this_thread::yield();
                              }
                          }).detach();
                      }
                      std::this_thread::sleep_for(milliseconds{round % 5});
                      std::exit(0);  // runs the destructors that run at exit, which is the point
                      return 1;
                  }),
                  0);
        // A goodbye is said only where no thread had begun yet.
        EXPECT_TRUE(served.daemon.seen(RequestKind::kBye) == 0 || served.pool.free_slots() == 8);
    }
}

TEST(SocketPath, IsResolvedOnce) {
    Served served(kGrowing);
    const std::string path = served.daemon.socket_path();
    const std::size_t slash = path.rfind('/');
    std::array<char, 4096> before{};
    ASSERT_NE(::getcwd(before.data(), before.size()), nullptr);
    ASSERT_EQ(::chdir(path.substr(0, slash).c_str()), 0);
    Client client = Client::attach(served.pool.name(), {.socket = path.substr(slash + 1)});
    ASSERT_EQ(::chdir(before.data()), 0);
    const std::vector<Slot> all = get_all(client);
    served.daemon.stop();
    served.daemon.start();
    while (served.daemon.seen(RequestKind::kResume) == 0) {
        ask_for_growth(served, client);
    }
}

TEST(SocketPath, MayHoldAnyBytes) {
    const Served served;
    const std::string path = served.daemon.socket_path() + "\xff\xc0 \n.sock";
    ASSERT_EQ(::symlink(served.daemon.socket_path().c_str(), path.c_str()), 0);
    EXPECT_NO_THROW(static_cast<void>(Client::attach(served.pool.name(), {.socket = path})));
    expect_error(ENOENT, path + "x",
                 [&] { static_cast<void>(Client::attach("x", {.socket = path + "x"})); });
}

TEST(SocketPath, OfAPrivilegedProgramIsTrustedWhereOnlyRootMayChangeIt) {
    using mempool::detail::distrusted_part_of;
    EXPECT_EQ(distrusted_part_of("/m.sock", 0), "");
    EXPECT_EQ(distrusted_part_of("/usr/m.sock", 4711), "");
    EXPECT_EQ(distrusted_part_of("/usr/lib/m.sock", 4711), "");
    EXPECT_EQ(distrusted_part_of("/tmp/m.sock", 0), "/tmp");
    EXPECT_EQ(distrusted_part_of("/tmp/of-somebody/m.sock", 0), "/tmp");
    EXPECT_EQ(distrusted_part_of("/none/such/m.sock", 0), "/none");
    // On the way there must be nothing of a third user's; at its end there may be the daemon's.
    const TemporaryDirectory directory;
    const std::string below = directory.path() + "/mempoold";
    ASSERT_EQ(::mkdir(below.c_str(), 0755), 0);
    ASSERT_EQ(::chmod(directory.path().c_str(), 01777), 0);  // as /tmp
    EXPECT_NE(distrusted_part_of(below + "/m.sock", ::geteuid()), "");
}

TEST(SocketPath, OfTheCallersEnvironmentIsIgnoredInASetUidProgram) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root: it gives a program to root";
    }
    constexpr uid_t kCaller = 65534;
    const Served served;
    const TemporaryDirectory directory;
    const std::string probe = directory.path() + "/probe";
    std::filesystem::copy_file(SETUID_PROBE_PATH, probe);
    ASSERT_EQ(::chmod(probe.c_str(), 04755), 0);
    // The caller could reach that daemon: the directory is open, and so is the socket.
    const std::string socket = served.daemon.socket_path();
    for (const std::string& open : {directory.path(), socket.substr(0, socket.rfind('/'))}) {
        ASSERT_EQ(::chmod(open.c_str(), 0755), 0);
    }
    ASSERT_EQ(::chmod(socket.c_str(), 0777), 0);
    const int result = in_child([&] {
        ::setenv("MEMPOOL_SOCKET", socket.c_str(), 1);
        ::setenv("XDG_RUNTIME_DIR", directory.path().c_str(), 1);
        MEMPOOL_CHECK(::setresgid(kCaller, kCaller, kCaller) == 0);
        MEMPOOL_CHECK(::setresuid(kCaller, kCaller, kCaller) == 0);
        ::execl(probe.c_str(), probe.c_str(), served.pool.name().c_str(), nullptr);
        return 2;
    });
    if (result == 77) {
        GTEST_SKIP() << "set-uid has no effect where temporary files are";
    }
    EXPECT_EQ(result, 0);
    EXPECT_EQ(served.daemon.seen(RequestKind::kAttach), 0U);
}

TEST(SocketPath, ThatIsAMountOfAReplacedSocketIsSaidToBe) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root: it mounts";
    }
    const TemporaryDirectory directory;
    const std::string made = directory.path() + "/made.sock";
    const std::string mounted = directory.path() + "/mounted.sock";
    std::ofstream(mounted).close();
    const int result = in_child([&] {
        UniqueFd listener{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        mempool::shm::copy_text(address.sun_path, made);
        MEMPOOL_CHECK(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address),
                             sizeof(address)) == 0);
        if (::unshare(CLONE_NEWNS) != 0 ||
            ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount(made.c_str(), mounted.c_str(), nullptr, MS_BIND, nullptr) != 0) {
            return 77;
        }
        listener.reset();
        const auto said = [&](const char* text) {
            try {
                static_cast<void>(Client::attach("x", {.socket = mounted}));
            } catch (const mempool::Error& e) {
                return e.code().value() == ECONNREFUSED && std::strstr(e.what(), text) != nullptr;
            }
            return false;
        };
        MEMPOOL_CHECK(said("start it"));
        ::unlink(made.c_str());
        MEMPOOL_CHECK(said("Mount the directory"));
        return 0;
    });
    if (result == 77) {
        GTEST_SKIP() << "this process may not mount";
    }
    EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace mempool_test
