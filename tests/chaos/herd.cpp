#include "chaos/herd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <thread>
#include <utility>

#include "support/spawn.hpp"

namespace mempool_test {

namespace {

int make_tally() {
    const int fd = ::memfd_create("mempool-chaos-tally", 0);  // inherited by members
    if (fd < 0 || ::ftruncate(fd, sizeof(Tally)) != 0) {
        throw std::system_error(errno, std::generic_category(), "memfd_create");
    }
    return fd;
}

pid_t execute_as_member(const MemberSetup& setup) {
    std::vector<std::string> arguments = arguments_of(setup);
    arguments.insert(arguments.begin(), "mempool_chaos");
    return spawn("/proc/self/exe", std::move(arguments));
}

}  // namespace

Herd::Herd(std::string socket, std::vector<Pasture> pastures, std::uint32_t members,
           std::uint64_t seed)
    : socket_(std::move(socket)),
      pastures_(std::move(pastures)),
      mail_(pastures_.size()),
      tally_fd_(make_tally()),
      tally_(map_tally(tally_fd_)),
      random_(seed) {
    for (std::array<int, 2>& pipe : mail_) {
        if (::pipe2(pipe.data(), O_NONBLOCK) != 0) {
            throw std::system_error(errno, std::generic_category(), "pipe");
        }
    }
    members_.resize(members);
    for (Member& member : members_) {
        start(member);
    }
}

Herd::~Herd() {
    for (const Member& member : members_) {
        if (member.pid > 0) {
            ::kill(member.pid, SIGKILL);
            ::waitpid(member.pid, nullptr, 0);
        }
    }
    for (const std::array<int, 2>& pipe : mail_) {
        ::close(pipe[0]);
        ::close(pipe[1]);
    }
    ::munmap(&tally_, sizeof(Tally));
    ::close(tally_fd_);
}

void Herd::start(Member& member) {
    const std::size_t where = next_life_ % pastures_.size();
    member = {.life = next_life_++ % kMostLives};
    member.pid = execute_as_member({.socket = socket_,
                                    .pool = pastures_[where].pool,
                                    .life = member.life,
                                    .seed = static_cast<std::uint32_t>(random_()),
                                    .threads = 1 + static_cast<std::uint32_t>(random_() % 3),
                                    .most_held = pastures_[where].most_held,
                                    .tally = tally_fd_,
                                    .mail = mail_[where]});
    ++counts_.started;
}

// Whether it is gone; a failure if neither by our SIGKILL nor with status 0.
bool Herd::reap(Member& member, int options, bool killed) {
    int status = 0;
    pid_t got = 0;
    do {
        got = ::waitpid(member.pid, &status, options);
    } while (got < 0 && errno == EINTR);
    if (got == 0) {
        return false;
    }
    const bool in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!in_order && !(killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        ADD_FAILURE() << "member " << member.pid << " (life " << member.life
                      << ") ended with wait status " << status;
    }
    member.pid = -1;
    return true;
}

void Herd::kill_one() {
    Member& member = members_[random_() % members_.size()];
    counts_.killed_stopped += member.stopped ? 1 : 0;
    tally_.bury(member.life);
    ::kill(member.pid, SIGKILL);
    ++counts_.killed;
    reap(member, 0, true);
    start(member);
}

void Herd::stop_one() {
    Member& member = members_[random_() % members_.size()];
    if (!member.stopped) {
        ::kill(member.pid, SIGSTOP);
        member.stopped = true;
        member.go_on = Clock::now() + std::chrono::milliseconds{1 + random_() % 300};
        ++counts_.stopped;
    }
}

bool Herd::tend() {
    for (Member& member : members_) {
        if (member.stopped && Clock::now() >= member.go_on) {
            ::kill(member.pid, SIGCONT);
            member.stopped = false;
        }
        if (reap(member, WNOHANG, false)) {
            ++counts_.ended;
            start(member);
        }
    }
    return !testing::Test::HasFailure();
}

bool Herd::dismiss() {
    tally_.stop.store(1);
    bool all = true;
    const auto deadline = Clock::now() + std::chrono::minutes{1};
    for (Member& member : members_) {
        ::kill(member.pid, SIGCONT);
    }
    for (Member& member : members_) {
        while (!reap(member, WNOHANG, false)) {
            if (Clock::now() > deadline) {
                ADD_FAILURE() << "member " << member.pid << " does not end";
                all = false;
                ::kill(member.pid, SIGKILL);
                reap(member, 0, true);
                break;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
    }
    members_.clear();
    return all;
}

}  // namespace mempool_test
