#include "siege/attacker.hpp"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "support/spawn.hpp"

namespace mempool_test {

namespace {
constexpr std::size_t kMostChildren = 48;
constexpr std::chrono::milliseconds kNap{5};
}  // namespace

bool become(uid_t id) {
    const pid_t parent = ::getppid();
    // In that order: a change of user clears what prctl sets.
    return become_user(id) && ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent;
}

Attacker::~Attacker() {
    for (const Undo& undo : undos_) {
        undo.run();
    }
    for (const Child& child : children_) {
        ::kill(child.pid, SIGKILL);
        ::waitpid(child.pid, nullptr, 0);
    }
}

void Attacker::besiege(const std::vector<std::size_t>& acts, std::chrono::milliseconds pause,
                       std::chrono::milliseconds life) {
    const auto last = Clock::now() + life;
    const auto is_over = [&] {
        return Clock::now() >= last || ledger_.phase.load() == Phase::kOver;
    };
    std::vector<std::size_t> order = acts;
    while (!is_over()) {
        std::shuffle(order.begin(), order.end(), random_);
        for (const std::size_t act : order) {
            const auto end = Clock::now() + about(pause);
            if (is_over()) {
                return;
            }
            act_ = act;
            bool done = false;
            try {
                done = all_acts().at(act).run(*this);
            } catch (const std::exception&) {
                // The daemon or the system refused; that is their right.
            }
            ledger_.tried.at(act).fetch_add(1);
            ledger_.in_vain.at(act).fetch_add(done ? 0 : 1);
            do {
                tidy(Clock::now());
                std::this_thread::sleep_for(kNap);
            } while (Clock::now() < end);
        }
    }
}

void Attacker::tidy(Clock::time_point now) {
    std::vector<Undo> due;
    const auto later = std::partition(undos_.begin(), undos_.end(),
                                      [now](const Undo& undo) { return undo.at > now; });
    std::move(later, undos_.end(), std::back_inserter(due));
    undos_.erase(later, undos_.end());
    for (const Undo& undo : due) {
        undo.run();
    }
    std::erase_if(children_, [now](const Child& child) {
        if (now >= child.at) {
            ::kill(child.pid, SIGKILL);
        }
        return ::waitpid(child.pid, nullptr, WNOHANG) != 0;
    });
}

std::chrono::milliseconds Attacker::about(std::chrono::milliseconds usual) {
    return usual / 2 +
           std::chrono::milliseconds{below(static_cast<std::uint64_t>(usual.count()) + 1)};
}

void Attacker::breach(const std::string& what) {
    note(ledger_.breaches, ledger_.first_breach,
         std::string(all_acts().at(act_).name) + ": " + what);
}

void Attacker::later(std::chrono::milliseconds wait, std::function<void()> undo) {
    undos_.push_back({Clock::now() + wait, std::move(undo)});
}

void Attacker::hold(mempool::shm::UniqueFd fd, std::chrono::milliseconds wait) {
    later(wait,
          [held = std::make_shared<mempool::shm::UniqueFd>(std::move(fd))] { held->reset(); });
}

bool Attacker::in_child(std::chrono::milliseconds limit, const std::function<bool()>& body) {
    if (children_.size() >= kMostChildren) {
        return false;
    }
    const pid_t child = fork_again(std::chrono::duration_cast<std::chrono::seconds>(limit) +
                                   std::chrono::seconds{2});
    if (child == 0) {
        bool done = false;
        try {
            done = body();
        } catch (const std::exception&) {
            // As above.
        }
        ledger_.in_vain.at(act_).fetch_add(done ? 0 : 1);
        ::_exit(0);
    }
    if (child > 0) {
        children_.push_back({Clock::now() + limit, child});
    }
    return child > 0;
}

bool Attacker::in_namespaces(std::chrono::milliseconds limit, const std::function<void()>& body) {
    return in_child(limit, [&body] {
        if (::unshare(CLONE_NEWUSER) != 0 ||
            ::unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME | CLONE_NEWIPC) != 0) {
            return false;
        }
        const pid_t inside = fork_again(std::chrono::seconds{2});
        if (inside == 0) {
            body();
            ::_exit(0);
        }
        ::waitpid(inside, nullptr, 0);
        return inside > 0;
    });
}

pid_t Attacker::fork_again(std::chrono::seconds limit) {
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::alarm(static_cast<unsigned>(limit.count()));  // where its parent's death does not end it
        if (::getppid() != parent) {
            ::_exit(0);
        }
    }
    return child;
}

}  // namespace mempool_test
