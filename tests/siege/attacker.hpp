// One attacker: a process of a user of its own that does its kinds of acts, again and again.
//
// Started by the siege. It is one thread, nice, and pauses between acts: what it takes is not the
// processor. What an act leaves open (a file, a connection, a child) is taken away after a while.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <mempool/shm/words/unique_fd.hpp>
#include <random>
#include <string>
#include <vector>

#include "siege/acts.hpp"
#include "siege/ledger.hpp"

namespace mempool_test {

/// Where it all happens.
struct Scene {
    std::string socket;            ///< of the daemon
    std::string socket_directory;  ///< owned by the daemon's user
    std::string work_pool;         ///< attackers have no right on it
    std::string open_pool;         ///< members may attach to it
    std::string scratch;           ///< a directory that all may write to
    pid_t daemon = -1;
    int mempoold = -1;  ///< the program, so that any user can execute it
};

/// Becomes user and group `id` without any other group, and dies with its parent. False, and
/// errno, if that fails.
bool become(uid_t id);

class Attacker {
public:
    Attacker(const Scene& scene, Ledger& ledger, std::uint64_t seed)
        : scene_(scene), ledger_(ledger), random_(seed) {}
    Attacker(const Attacker&) = delete;
    Attacker& operator=(const Attacker&) = delete;
    ~Attacker();

    /// Does the acts with these numbers in all_acts() in a random order, again and again, with
    /// `pause` on average in between, for `life`, but not when the siege is over.
    void besiege(const std::vector<std::size_t>& acts, std::chrono::milliseconds pause,
                 std::chrono::milliseconds life);

    [[nodiscard]] const Scene& scene() const noexcept { return scene_; }
    [[nodiscard]] Ledger& ledger() noexcept { return ledger_; }
    [[nodiscard]] std::uint64_t random() { return random_(); }
    [[nodiscard]] std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    /// Between half of `usual` and one and a half.
    [[nodiscard]] std::chrono::milliseconds about(std::chrono::milliseconds usual);

    /// The act got what it has no right to: the siege is lost.
    void breach(const std::string& what);

    /// Runs `undo` in a while.
    void later(std::chrono::milliseconds wait, std::function<void()> undo);
    /// Closes `fd` in a while.
    void hold(mempool::shm::UniqueFd fd, std::chrono::milliseconds wait);
    /// Forks a process that runs `body`, and is killed if it has not ended after `limit`. If `body`
    /// returns false, the act was in vain. False if there are too many already.
    bool in_child(std::chrono::milliseconds limit, const std::function<bool()>& body);
    /// As in_child(), for a process in namespaces of its own: users, pids, mounts, time and IPC.
    bool in_namespaces(std::chrono::milliseconds limit, const std::function<void()>& body);
    /// In such a child: forks another that dies by itself; its pid, 0 in the child.
    static pid_t fork_again(std::chrono::seconds limit);

private:
    using Clock = std::chrono::steady_clock;
    struct Undo {
        Clock::time_point at;
        std::function<void()> run;
    };
    struct Child {
        Clock::time_point at;
        pid_t pid;
    };

    void tidy(Clock::time_point now);

    const Scene& scene_;
    Ledger& ledger_;
    std::mt19937_64 random_;
    std::size_t act_ = 0;  // at work
    std::vector<Undo> undos_;
    std::vector<Child> children_;
};

}  // namespace mempool_test
