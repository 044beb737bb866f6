// A real mempoold as a child process of a test, with a socket in a directory of its own.
//
// Used by tests of the daemon, the library, the tool and of crashes. The child dies with the test
// (PR_SET_PDEATHSIG), its stderr goes to a file that is printed when the test has failed.
#pragma once

#include <sys/types.h>

#include <mempool/shm/words/unique_fd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace mempool_test {

/// A directory in $TMPDIR, else /tmp, that goes, with all in it, when the object goes.
class TemporaryDirectory {
public:
    TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory();

    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
};

/// At most one daemon at a time; start() it as often as you like. Not thread-safe.
class DaemonProcess {
public:
    DaemonProcess();
    DaemonProcess(const DaemonProcess&) = delete;
    DaemonProcess& operator=(const DaemonProcess&) = delete;
    /// Kills the daemon; prints its stderr if the running test has failed.
    ~DaemonProcess();

    /// From the next start on it is this program, another build of mempoold.
    void run_program(std::string path);
    /// From the next start on it is user and group `id` and has no other groups; its directory is
    /// theirs, and others may look into it. Needs root.
    void run_as(uid_t id);

    /// From the next start on it gets these descriptors, by name, as systemd passes what it kept.
    void pass(std::vector<std::pair<std::string, mempool::shm::UniqueFd>> descriptors);

    /// Starts `mempoold --socket SOCKET_PATH arguments…` and waits until it says that it is ready.
    /// Throws std::runtime_error, with its stderr, if it ends instead.
    void start(std::vector<std::string> arguments);
    /// As start(), but without waiting: for a daemon that is expected to refuse.
    void launch(std::vector<std::string> arguments);
    /// start() with the arguments of the last start, after the last daemon has ended.
    void restart();
    /// Waits until log() contains `text`; throws std::runtime_error when patience ends.
    void wait_for_log(const std::string& text) const;

    /// SIGKILL, and waits for the end.
    void kill9();
    /// SIGTERM, and waits for the end: the exit status, or 128 + the number of a fatal signal.
    int terminate();
    /// Waits for the end: as terminate().
    int wait();
    void stop();    ///< SIGSTOP
    void cont();    ///< SIGCONT
    void reload();  ///< SIGHUP; does not wait

    [[nodiscard]] bool is_running() const;
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] const std::string& socket_path() const { return socket_path_; }
    /// Of socket, lock file and log; a test may put files of its own there.
    [[nodiscard]] const std::string& directory() const { return directory_.path(); }
    /// All that its daemons wrote to stderr so far, or that of the last one alone.
    [[nodiscard]] std::string log() const;
    [[nodiscard]] std::string last_log() const;

private:
    void send(int signal) const;

    TemporaryDirectory directory_;
    std::string socket_path_ = directory_.path() + "/mempoold.sock";
    std::string log_path_ = directory_.path() + "/stderr.log";
    std::vector<std::string> arguments_;
    std::string program_;
    std::size_t log_start_ = 0;  // of the last daemon
    uid_t user_ = 0;             // 0: who runs the test
    std::vector<std::pair<std::string, mempool::shm::UniqueFd>> passed_;
    pid_t pid_ = -1;
};

/// What a program that ran to its end left.
struct Finished {
    int status = 0;  ///< exit status, or 128 + the number of a fatal signal
    std::string out;
    std::string err;
};

/// Runs mempoold with exactly these arguments to its end.
Finished run_mempoold(std::vector<std::string> arguments);

}  // namespace mempool_test
