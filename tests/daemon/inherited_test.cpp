// What a daemon inherits from whoever starts it: signals, umask, limits, timers, closed stdio, a
// log that nobody reads.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "mempool/shm/words/unique_fd.hpp"
#include "raw_client.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"
#include "support/spawn.hpp"

namespace mempoold {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class InheritedTest : public testing::Test {
protected:
    void TearDown() override {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            wait();
        }
        if (HasFailure()) {
            std::fprintf(stderr, "---- stderr of mempoold\n%s----\n", log().c_str());
        }
    }

    // Starts mempoold at socket() unless `arguments` say where; `prepare` runs before it.
    void launch(std::vector<std::string> arguments, const std::function<void()>& prepare) {
        arguments.insert(arguments.begin(), program_);
        pid_ = mempool_test::spawn(program_, std::move(arguments), [&] {
            const int log =
                ::open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
            ::dup2(log, STDERR_FILENO);
            prepare();
        });
    }
    void start(const std::string& pool, const std::function<void()>& prepare) {
        launch({"--socket", socket(), "--pool", pool}, prepare);
        ASSERT_TRUE(eventually([&] { return answers(); }));
    }
    bool answers() const {
        try {
            RawClient client(socket());
            const auto reply = client.ask(make_request(RequestKind::kStatus));
            return reply && reply->error == 0;
        } catch (const std::exception&) {
            return false;
        }
    }
    bool logged(const std::string& text) const {
        return eventually([&] { return log().find(text) != std::string::npos; });
    }
    int wait() {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    int terminate() {
        ::kill(pid_, SIGTERM);
        return wait();
    }
    std::string log() const {
        std::ifstream file(log_path_);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    // A mask of signals in /proc/PID/status.
    std::uint64_t signals(const std::string& field) const {
        std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
        for (std::string line; std::getline(status, line);) {
            if (line.rfind(field + ":", 0) == 0) {
                return std::stoull(line.substr(field.size() + 1), nullptr, 16);
            }
        }
        throw std::runtime_error("no " + field);
    }
    const std::string& directory() const { return directory_.path(); }
    std::string socket() const { return directory() + "/mempoold.sock"; }

    const std::string pool_ = mempool_test::unique_pool("inherited");
    std::string program_ = MEMPOOLD_PATH;
    pid_t pid_ = -1;

private:
    mempool_test::TemporaryDirectory directory_;
    const std::string log_path_ = directory_.path() + "/log";
};

constexpr std::uint64_t bit(int signal) { return std::uint64_t{1} << (signal - 1); }

TEST_F(InheritedTest, SignalsThatWereBlockedOrIgnoredAreHandled) {
    start(pool_ + ":64x64", [] {
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
        for (const int signal : {SIGTERM, SIGHUP, SIGCHLD, SIGBUS, SIGUSR1}) {
            ::signal(signal, SIG_IGN);
        }
        ::signal(SIGXFSZ, SIG_DFL);
    });
    EXPECT_EQ(signals("SigBlk"), 0U);
    EXPECT_EQ(signals("SigIgn") & (bit(SIGTERM) | bit(SIGHUP) | bit(SIGCHLD) | bit(SIGUSR1)), 0U);
    EXPECT_NE(signals("SigIgn") & bit(SIGXFSZ), 0U);
    EXPECT_NE(signals("SigIgn") & bit(SIGPIPE), 0U);
    ::kill(pid_, SIGHUP);
    EXPECT_TRUE(logged("configuration reloaded"));
    EXPECT_EQ(terminate(), 0);
}

TEST_F(InheritedTest, AFileSizeLimitFailsThePoolAndNotTheDaemon) {
    const std::string small = mempool_test::unique_pool("inherited");
    launch({"--socket", socket(), "--pool", pool_ + ":4KiBx1024", "--pool", small + ":64x16"}, [] {
        const rlimit limit{1 << 20, 1 << 20};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    });
    ASSERT_TRUE(eventually([&] { return answers(); }));
    EXPECT_TRUE(logged("raise its file size limit (ulimit -f"));
    const PoolClient client(socket(), small);
    EXPECT_EQ(terminate(), 0);
}

TEST_F(InheritedTest, ASoftFileSizeLimitIsRaised) {
    rlimit hard{};
    ::getrlimit(RLIMIT_FSIZE, &hard);
    if (hard.rlim_max != RLIM_INFINITY) {
        GTEST_SKIP() << "the hard limit is low";
    }
    start(pool_ + ":4KiBx1024", [] {
        const rlimit limit{1 << 20, RLIM_INFINITY};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    });
    const PoolClient client(socket(), pool_);
}

// The signal is blocked, since no program outlives one that comes before its main(): the first is
// pending when the daemon starts, and the next would come while it serves.
TEST_F(InheritedTest, ATimerThatSurvivesExecDoesNotEndIt) {
    constexpr int kMilliseconds = 50;
    start(pool_ + ":64x64", [] {
        sigset_t alarm;
        ::sigemptyset(&alarm);
        ::sigaddset(&alarm, SIGALRM);
        ::sigprocmask(SIG_BLOCK, &alarm, nullptr);
        const itimerval often{{0, kMilliseconds * 1000}, {0, 1000}};
        ::setitimer(ITIMER_REAL, &often, nullptr);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds{4 * kMilliseconds});
    EXPECT_TRUE(answers());
}

TEST_F(InheritedTest, TheSocketsDirectoryHasItsModeWhateverTheUmask) {
    const std::string place = directory() + "/run";
    launch({"--pool", pool_ + ":64x64"}, [&] {
        ::setenv("RUNTIME_DIRECTORY", place.c_str(), 1);
        ::umask(0777);
    });
    ASSERT_TRUE(logged(" ready: "));
    struct stat status {};
    ASSERT_EQ(::stat(place.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0755U);
    ASSERT_EQ(::stat((place + "/mempoold.sock").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0666U);
}

TEST_F(InheritedTest, NothingElseGetsANumberOfStdio) {
    start(pool_ + ":64x64", [] {
        ::close(STDIN_FILENO);
        ::close(STDOUT_FILENO);
        ::close(STDERR_FILENO);
    });
    for (const int fd : {0, 1, 2}) {
        const fs::path link = "/proc/" + std::to_string(pid_) + "/fd/" + std::to_string(fd);
        EXPECT_EQ(fs::read_symlink(link), "/dev/null") << fd;
    }
}

TEST_F(InheritedTest, ARelativePathIsFromTheDirectoryItStartedIn) {
    std::ofstream(directory() + "/m.conf") << "pool = " << pool_ << ":64x64\n";
    launch({"--socket", "mempoold.sock", "--config", "m.conf"},
           [&] { ASSERT_EQ(::chdir(directory().c_str()), 0); });
    EXPECT_TRUE(logged("ready: socket " + socket()));
    ::kill(pid_, SIGHUP);
    EXPECT_TRUE(logged("configuration reloaded"));
}

TEST_F(InheritedTest, ASetUidMempooldRefuses) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    program_ = directory() + "/mempoold";
    fs::copy_file(MEMPOOLD_PATH, program_);
    ASSERT_EQ(::chmod(program_.c_str(), 04755), 0);
    ASSERT_EQ(::chmod(directory().c_str(), 0755), 0);
    launch({"--version"}, [] {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) {
            ::_exit(3);
        }
    });
    EXPECT_EQ(wait(), 2);
    EXPECT_THAT(log(), HasSubstr("set-uid or set-gid"));
}

void write_text(const char* path, const char* text) {
    const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ::write(fd, text, std::strlen(text)) < 0) {
        ::_exit(3);
    }
    ::close(fd);
}

// Linux shows a user that has no number in the reader's namespace as nobody, who may be allowed.
TEST_F(InheritedTest, AUserWithoutANumberInItsNamespaceIsNobodyInParticular) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "not root";
    }
    const std::string open_pool = mempool_test::unique_pool("inherited");
    ASSERT_EQ(::chmod(directory().c_str(), 0755), 0);
    launch({"--socket", socket(), "--pool", open_pool + ":64x64,allow_users=*", "--pool",
            pool_ + ":64x64,allow_users=65534,allow_groups=65534", "--admin-group", "65534"},
           [] {
               if (::unshare(CLONE_NEWUSER) != 0) {
                   ::_exit(77);
               }
               write_text("/proc/self/uid_map", "0 0 1");
               write_text("/proc/self/setgroups", "deny");
               write_text("/proc/self/gid_map", "0 0 1");
           });
    if (!eventually([&] { return answers() || ::waitpid(pid_, nullptr, WNOHANG) == pid_; }) ||
        !answers()) {
        pid_ = -1;
        GTEST_SKIP() << "no user namespaces";
    }
    for (const uid_t uid : {54321U, 65534U}) {
        const ChildProcess child([&] {
            if (::setgroups(1, &uid) != 0 || ::setgid(uid) != 0 || ::setuid(uid) != 0) {
                throw std::runtime_error("setuid");
            }
            RawClient client(socket());
            auto reply = client.ask(make_request(RequestKind::kAttach, pool_));
            if (!reply || reply->error != EACCES ||
                std::string(reply->text).find("no number") == std::string::npos) {
                throw std::runtime_error("it may attach");
            }
            reply = client.ask(make_request(RequestKind::kGrow, pool_, 1));
            if (!reply || reply->error != EPERM) {
                throw std::runtime_error("it is an admin");
            }
            const PoolClient everybodys(socket(), open_pool);
        });
    }
    const PoolClient roots(socket(), pool_);
}

TEST_F(InheritedTest, WithoutClientsItSleeps) {
    start(pool_ + ":64x64,max_slots=256", [] {});
    {
        PoolClient client(socket(), pool_);
        client.get(60);  // and it grows, so it was awake
        ASSERT_TRUE(eventually([&] { return client.view().segment_count() > 1; }));
        client.connection().send(make_goodbye(client));
        ASSERT_TRUE(client.connection().is_closed());
    }
    const auto wake_ups = [&] {
        std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
        const std::string name = "voluntary_ctxt_switches:";
        for (std::string line; std::getline(status, line);) {
            if (line.rfind(name, 0) == 0) {
                return std::stoull(line.substr(name.size()));
            }
        }
        throw std::runtime_error("no " + name);
    };
    std::this_thread::sleep_for(std::chrono::milliseconds{200});
    const auto begun = std::chrono::steady_clock::now();
    const auto before = wake_ups();
    std::this_thread::sleep_for(std::chrono::seconds{2});
    const auto woken = wake_ups() - before;
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun;
    EXPECT_LE(static_cast<double>(woken), 2 * passed.count());
}

TEST_F(InheritedTest, ALogThatNobodyReadsHoldsUpNobodyAndNotTheEnd) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const mempool::shm::UniqueFd reader{ends[0]};
    const mempool::shm::UniqueFd writer{ends[1]};
    // Full but for less than a line.
    ASSERT_GT(::fcntl(writer.get(), F_SETPIPE_SZ, 4096), 0);
    const std::string bytes(4090, '.');
    ASSERT_EQ(::write(writer.get(), bytes.data(), bytes.size()), 4090);
    start(pool_ + ":64x64", [&] { ::dup2(writer.get(), STDERR_FILENO); });
    for (int k = 0; k < 20; ++k) {
        RawClient rude(socket());
        rude.send_bytes("nonsense");
        EXPECT_TRUE(rude.is_closed());
    }
    const PoolClient client(socket(), pool_);
    EXPECT_EQ(terminate(), 0);
}

}  // namespace
}  // namespace mempoold
