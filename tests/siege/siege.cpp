#include "siege/siege.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "multiprocess/crew.hpp"
#include "siege/acts.hpp"
#include "siege/connection.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {

namespace {

using namespace std::chrono_literals;
namespace payload = mempool::shm::payload;

constexpr std::uint32_t kWorkers = 2;
constexpr std::uint32_t kStrangers = 4;
constexpr std::uint32_t kMembers = 2;  // processes of one user
constexpr auto kStrangerPause = 90ms;
constexpr auto kMemberPause = 110ms;
// The daemon is no root: it cannot see whether a process of another user still maps a pool, and
// keeps the id of an attachment until the process that had it is gone. A member that lived on would
// soon have all ids, and every act that attaches would be in vain.
constexpr auto kMemberLife = 5s;
constexpr auto kStrangerLife = 1h;
constexpr auto kLastAct = 8s;  // longer than an act that only waits for answers takes

constexpr auto kTick = 20ms;
constexpr auto kProbePause = 100ms;
constexpr auto kGrowthPause = 3s;
constexpr auto kKillPause = 1500ms;
constexpr auto kReloadPause = 300ms;
constexpr auto kHang = 5s;
constexpr auto kSettling = 20s;

// Little room, so that the daemon has to share it out.
constexpr rlimit kDescriptors = {1024, 2048};

// Users that no other run has; within what a container has, too.
uid_t users_of_this_run() { return 20000 + static_cast<uid_t>(::getpid() % 4500) * 8; }

Tally& make_tally() {
    void* shared =
        ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "the tally");
    }
    return *new (shared) Tally{};
}

// What a process and its descendants are at, for a message.
std::string whereabouts(pid_t pid) {
    const std::string directory = "/proc/" + std::to_string(pid) + "/";
    const auto first_line = [&directory](const std::string& file) {
        std::ifstream from(directory + file);
        std::string line;
        std::getline(from, line);
        return line;
    };
    std::string text = "\n  " + first_line("stat").substr(0, 40) + "... waits in " +
                       first_line("wchan") + ", system call " + first_line("syscall");
    std::ifstream list(directory + "task/" + std::to_string(pid) + "/children");
    for (pid_t child = 0; list >> child;) {
        text += whereabouts(child);
    }
    return text;
}

// Kills and reaps all that descend from this process, orphans included: they are its children.
void kill_descendants() {
    for (int round = 0; round < 1000; ++round) {
        std::ifstream list("/proc/self/task/" + std::to_string(::getpid()) + "/children");
        bool any = false;
        for (pid_t child = 0; list >> child;) {
            ::kill(child, SIGKILL);
            any = true;
        }
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {
        }
        if (!any) {
            return;
        }
        std::this_thread::sleep_for(1ms);
    }
}

}  // namespace

Siege::Siege(const SiegeOptions& options)
    : options_(options),
      first_user_(users_of_this_run()),
      ledger_(make_ledger()),
      tally_(make_tally()) {
    std::cout << "seed " << options_.seed << ": " << command_of(options_) << std::endl;
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    ::setrlimit(RLIMIT_NOFILE, &kDescriptors);
    if (::chmod(scratch_.path().c_str(), 01777) != 0 ||
        ::pipe2(mail_.data(), O_NONBLOCK | O_CLOEXEC) != 0) {
        throw std::system_error(errno, std::generic_category(), "siege");
    }
    start_daemon();
    work_uuid_ =
        mempool::Inspector::open(scene_.work_pool, {.socket = scene_.socket}).status().uuid;
}

Siege::~Siege() {
    tally_.stop.store(1);
    ledger_.phase.store(Phase::kOver);
    for (const auto* processes : {&attackers_, &besieged_}) {
        for (const Process& process : *processes) {
            ::kill(process.pid, SIGKILL);
            ::waitpid(process.pid, nullptr, 0);
        }
    }
    if (daemon_.is_running()) {
        daemon_.kill9();
    }
    kill_descendants();
    ::close(mail_[0]);
    ::close(mail_[1]);
    ::close(scene_.mempoold);
    if (testing::Test::HasFailure()) {
        std::cerr << "to try again: " << command_of(options_) << '\n';
    }
}

void Siege::start_daemon() {
    const uid_t worker = first_user_ + 1;
    const uid_t member = first_user_ + 2;
    scene_.socket = daemon_.socket_path();
    scene_.socket_directory = daemon_.directory();
    scene_.scratch = scratch_.path();
    scene_.work_pool = unique_pool("siege-work");
    scene_.open_pool = unique_pool("siege-open");
    scene_.mempoold = ::open(options_.daemon.empty() ? MEMPOOLD_PATH : options_.daemon.c_str(),
                             O_PATH | O_CLOEXEC);
    if (!options_.daemon.empty()) {
        daemon_.run_program(options_.daemon);
    }
    daemon_.run_as(first_user_);
    daemon_.start({"--pool",
                   scene_.work_pool + ":256x2000,max_slots=20000,grow_slots=64,low_watermark=0," +
                       "detached_ttl=2,max_clients=64,allow_users=" + std::to_string(worker),
                   "--pool",
                   scene_.open_pool + ":1KiBx256,max_slots=512,grow_slots=64,detached_ttl=1," +
                       "max_clients=64,allow_users=" + std::to_string(member)});
    scene_.daemon = daemon_.pid();
}

pid_t Siege::start(uid_t user, const std::function<void()>& body) {
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        int status = 1;
        try {
            if (become(user)) {
                body();
                status = 0;
            }
        } catch (const std::exception& e) {
            std::fprintf(stderr, "process of uid %u: %s\n", user, e.what());
        }
        std::fflush(nullptr);
        ::_exit(status);
    }
    return child;
}

void Siege::start_besieged() {
    const uid_t worker = first_user_ + 1;
    const Besieged b{scene_.socket, scene_.work_pool, tally_, ledger_};
    besieged_.push_back({"one that times pairs", start(worker, [&] { time_pairs(b); })});
    for (int k = 0; k < 2; ++k) {
        besieged_.push_back({"one that times attaches", start(worker, [&] { time_attaches(b); })});
    }
    for (std::uint32_t k = 0; k < kWorkers; ++k) {
        start_worker(next_life_++);
    }
}

void Siege::start_worker(std::uint32_t life) {
    const Besieged b{scene_.socket, scene_.work_pool, tally_, ledger_};
    const WorkerOptions options{.life = life,
                                .most_held = 60,
                                .seed = static_cast<std::uint32_t>(options_.seed) + life,
                                .mail = mail_};
    besieged_.push_back(
        {"a worker", start(first_user_ + 1, [&] { work_and_return(b, options); }), life});
}

void Siege::replace_worker() {
    const auto worker = std::find_if(besieged_.begin(), besieged_.end(),
                                     [](const Process& process) { return process.life != 0; });
    if (worker == besieged_.end()) {
        return;
    }
    tally_.bury(worker->life);
    ::kill(worker->pid, SIGKILL);
    int status = 0;
    ::waitpid(worker->pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "a worker ended by itself, wait status " << status;
    besieged_.erase(worker);
    ++workers_killed_;
    start_worker(next_life_++ % kMostLives);
}

void Siege::start_attackers() {
    const auto attack = [&](std::uint32_t k, Who who, std::chrono::seconds life,
                            std::chrono::milliseconds pause) {
        const std::vector<std::size_t> acts = chosen(who);
        if (acts.empty()) {
            return;
        }
        const uid_t user = first_user_ + (who == Who::kMember ? 2 : 3 + k);
        attackers_.push_back({"an attacker", start(user, [&] {
                                  ::setpriority(PRIO_PROCESS, 0, 19);
                                  besiege_in_turns(acts, life, pause, options_.seed + user);
                              })});
    };
    for (std::uint32_t k = 0; k < kStrangers; ++k) {
        attack(k, Who::kStranger, kStrangerLife, kStrangerPause);
    }
    for (std::uint32_t k = 0; k < kMembers; ++k) {
        attack(k, Who::kMember, kMemberLife, kMemberPause);
    }
}

void Siege::besiege_in_turns(const std::vector<std::size_t>& acts, std::chrono::seconds life,
                             std::chrono::milliseconds pause, std::uint64_t seed) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (; ledger_.phase.load() != Phase::kOver; ++seed) {
        const pid_t attacker = Attacker::fork_again(life + kLastAct);
        if (attacker == 0) {
            Attacker(scene_, ledger_, seed).besiege(acts, pause, life);
            ::_exit(0);
        }
        int status = 0;
        pid_t ended = 0;
        do {
            ended = ::wait(&status);  // of its orphans, too
        } while (ended > 0 && ended != attacker);
        if (ended == attacker && WIFSIGNALED(status)) {
            std::fprintf(stderr, "an attacker ended by signal %d\n", WTERMSIG(status));
        }
    }
}

std::vector<std::size_t> Siege::chosen(Who who) const {
    const auto holds = [](const std::vector<std::string>& kinds, const Act& act) {
        return std::any_of(kinds.begin(), kinds.end(),
                           [&act](const std::string& kind) { return is_kind(act, kind); });
    };
    std::vector<std::size_t> acts;
    for (std::size_t k = 0; k < all_acts().size(); ++k) {
        const Act& act = all_acts().at(k);
        if (act.who == who && (options_.only.empty() || holds(options_.only, act)) &&
            !holds(options_.without, act)) {
            acts.push_back(k);
        }
    }
    return acts;
}

void Siege::run() {
    start_besieged();
    const auto peace = std::min<std::chrono::milliseconds>(options_.seconds * 1000ms / 4, 20s);
    if (!watch(std::max<std::chrono::milliseconds>(peace, 2s))) {
        return;
    }
    before_ = figures_of(scene_.daemon);
    const auto start = Clock::now();
    ledger_.phase.store(Phase::kSiege);
    start_attackers();
    const bool held = watch(std::chrono::seconds{options_.seconds});
    siege_seconds_ = std::chrono::duration<double>(Clock::now() - start).count();
    ledger_.phase.store(Phase::kOver);
    dismiss(attackers_, 15s, false);
    renew_open_pool();
    after_ = held ? settled_figures() : before_;
    tally_.stop.store(1);
    dismiss(besieged_, 30s, held);
    if (held && daemon_.is_running()) {
        expect_whole(scene_.socket, scene_.work_pool);
        at_end_ = mempool::Inspector::open(scene_.work_pool, {.socket = scene_.socket}).status();
        EXPECT_EQ(at_end_.uuid, work_uuid_) << "another pool took the place of the work pool";
        judge_daemon();
        judge_acts();
    }
    EXPECT_EQ(tally_.violations.load(), 0U) << tally_.first_violation.data();
    EXPECT_EQ(ledger_.breaches.load(), 0U) << ledger_.first_breach.data();
    EXPECT_EQ(tally_.refused.load(), 0U) << ledger_.first_refusal.data();
    EXPECT_EQ(growths_refused_, 0U) << "the work pool could not be grown";
    if (options_.strict) {
        judge_times();
    }
    print_acts();
    print_account();
}

bool Siege::watch(std::chrono::milliseconds time) {
    const auto end = Clock::now() + time;
    while (Clock::now() < end) {
        const auto now = Clock::now();
        if (!daemon_.is_running()) {
            ADD_FAILURE() << "the daemon ended by itself, status " << daemon_.wait();
            return false;
        }
        if (now >= next_probe_) {
            if (!daemon_answers()) {
                ADD_FAILURE() << "the daemon hangs: it did not answer within 5 s";
                return false;
            }
            next_probe_ = Clock::now() + kProbePause;
        }
        if (now >= next_growth_) {
            grow_work_pool();
            next_growth_ = Clock::now() + kGrowthPause;
        }
        if (now >= next_kill_) {
            replace_worker();
            next_kill_ = Clock::now() + kKillPause;
        }
        if (now >= next_reload_ && ledger_.open_lost.exchange(0) != 0) {
            renew_open_pool();
            next_reload_ = Clock::now() + kReloadPause;
        }
        std::this_thread::sleep_for(kTick);
    }
    return true;
}

bool Siege::daemon_answers() {
    const auto start = Clock::now();
    Connection connection(scene_.socket, kHang);
    const bool answered =
        connection.ask(request_of(RequestKind::kStatus), nullptr, kHang).has_value();
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
    slowest_answer_ms_ = std::max(slowest_answer_ms_, static_cast<std::uint32_t>(took.count()));
    ++answers_;
    return answered && took < kHang;
}

// So that the daemon makes objects while others foresee their names.
void Siege::grow_work_pool() {
    mempool::shm::Request grow = request_of(RequestKind::kGrow, scene_.work_pool);
    payload::put(grow, payload::Grow{64});
    Connection connection(scene_.socket, kHang);
    const auto reply = connection.ask(grow, nullptr, kHang);
    ++growths_;
    if (!reply || reply->error != 0) {
        ++growths_refused_;
        std::cout << "growth refused: "
                  << (reply ? mempool::shm::text_of(reply->text) : "no answer") << std::endl;
    }
}

void Siege::renew_open_pool() {
    remove_set_aside();
    daemon_.reload();
    ++reloads_;
}

// What members spoiled would fill /dev/shm.
void Siege::remove_set_aside() const {
    for (const std::string& object : objects_of(scene_.open_pool)) {
        if (object.find("aside") != std::string::npos) {
            std::error_code ignored;
            std::filesystem::remove_all("/dev/shm/" + object, ignored);
        }
    }
}

void Siege::dismiss(std::vector<Process>& processes, std::chrono::seconds patience,
                    bool must_succeed) {
    const auto deadline = Clock::now() + patience;
    for (const Process& process : processes) {
        int status = 0;
        std::string late;
        while (::waitpid(process.pid, &status, late.empty() ? WNOHANG : 0) == 0) {
            if (Clock::now() > deadline) {
                late = whereabouts(process.pid);
                ::kill(process.pid, SIGKILL);
            }
            std::this_thread::sleep_for(5ms);
        }
        if (!late.empty() || (must_succeed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))) {
            ADD_FAILURE() << process.name << (late.empty() ? " ended" : " does not end")
                          << ", wait status " << status << late;
        }
    }
    processes.clear();
}

DaemonFigures Siege::settled_figures() {
    const auto deadline = Clock::now() + kSettling;
    DaemonFigures now = figures_of(scene_.daemon);
    while (!is_settled(before_, now) && Clock::now() < deadline && watch(200ms)) {
        remove_set_aside();
        now = figures_of(scene_.daemon);
    }
    return now;
}

}  // namespace mempool_test
