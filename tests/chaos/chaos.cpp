#include "chaos/chaos.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <iostream>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <thread>
#include <utility>

#include "chaos/report.hpp"
#include "multiprocess/crew.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {

namespace {

constexpr std::uint32_t kMostClients = 16;
constexpr std::chrono::seconds kPatience{60};

// One that grows a little at a time, one with magazines of one slot that is always short, one that
// erases and has a quota that clients run into, one in which slots are plenty.
constexpr const char* kGrowing = "2KiBx128,max_slots=1024,grow_slots=16,low_watermark=5%";
constexpr const char* kShort = "64x48";
constexpr const char* kErasing = "256x200,erase_on_put=yes,quota=60";
constexpr const char* kPlenty = "128x4000";
constexpr std::uint32_t kFirstHeld = 12;
constexpr std::uint32_t kLastHeld = 160;

}  // namespace

Chaos::Chaos(const ChaosOptions& options) : options_(options), random_(options.seed) {
    std::cout << "seed " << options_.seed << ": " << command_of(options_) << '\n';
    if (!shm_.made()) {
        std::cout << "no mount namespace of our own here: /dev/shm does not run full\n";
    }
    std::vector<std::string> arguments;
    std::vector<Pasture> pastures;
    const auto add = [&](const char* shape, std::uint32_t most_held) {
        pools_.push_back(unique_pool("chaos"));
        arguments.insert(arguments.end(),
                         {"--pool", pools_.back() + ":" + shape + ",detached_ttl=2,max_clients=" +
                                        std::to_string(kMostClients)});
        pastures.push_back({pools_.back(), most_held});
    };
    add(kGrowing, kFirstHeld);
    add(kShort, 20);
    add(kErasing, 40);
    add(kPlenty, 60);
    daemon_.start(std::move(arguments));
    herd_ = std::make_unique<Herd>(daemon_.socket_path(), std::move(pastures), options_.members,
                                   options_.seed + 1);
}

Chaos::~Chaos() {
    if (testing::Test::HasFailure()) {
        std::cerr << "to try again: " << command_of(options_) << '\n';
    }
}

void Chaos::run() {
    try {
        live();
    } catch (const std::exception& e) {
        ADD_FAILURE() << e.what();
    }
}

void Chaos::live() {
    while (!is_over() && herd_->tend() && goes_on()) {
        pause(4000);
        strike();
    }
    filler_.reset();
    if (!daemon_.is_running()) {
        ADD_FAILURE() << "the daemon ended by itself, status " << daemon_.wait();
        daemon_.restart();
    }
    herd_->dismiss();
    account();
}

bool Chaos::is_over() const {
    return Clock::now() - start_ >= std::chrono::minutes{options_.minutes} &&
           herd_->counts().killed >= options_.client_kills &&
           counts_.daemon_kills >= options_.daemon_kills;
}

double Chaos::progress() const {
    return std::min(1.0, static_cast<double>(herd_->counts().killed) /
                             std::max(1.0, static_cast<double>(options_.client_kills)));
}

bool Chaos::goes_on() {
    const std::uint64_t gets = herd_->tally().gets.load();
    if (gets != seen_gets_) {
        seen_gets_ = gets;
        seen_at_ = Clock::now();
    }
    if (Clock::now() - seen_at_ > kPatience) {
        ADD_FAILURE() << "nobody has got a slot for a minute";
        return false;
    }
    if (herd_->tally().violations.load() != 0) {
        ADD_FAILURE() << "violation: " << herd_->tally().first_violation.data();
        return false;
    }
    return true;
}

void Chaos::strike() {
    // The later one starts, the more it holds: so the first pool grows all the time.
    herd_->pastures().front().most_held =
        kFirstHeld + static_cast<std::uint32_t>(progress() * (kLastHeld - kFirstHeld));
    herd_->kill_one();
    if (one_in(5)) {
        herd_->stop_one();
    }
    if (one_in(150)) {
        crowd_in(pools_[random_() % pools_.size()]);
    }
    if (one_in(60)) {
        fill_or_empty_shm();
    }
    if (one_in(100)) {
        daemon_.reload();
        ++counts_.reloads;
    }
    if (one_in(100)) {
        daemon_.stop();
        ++counts_.daemon_stops;
        pause(30'000);
        herd_->kill_one();
        daemon_.cont();
    }
    const double wanted = progress() * options_.daemon_kills;
    if (static_cast<double>(counts_.daemon_kills) < wanted) {
        end_daemon();
    }
}

// Clients that die while it is down are found dead by the next daemon.
void Chaos::end_daemon() {
    if (one_in(4)) {
        EXPECT_EQ(daemon_.terminate(), 0);
        ++counts_.daemon_restarts;
    } else {
        if (one_in(2)) {
            herd_->kill_one();  // while it is about to reclaim that
            pause(1000);
        }
        daemon_.kill9();
        ++counts_.daemon_kills;
    }
    for (std::uint64_t deaths = random_() % 4; deaths > 0; --deaths) {
        pause(2000);
        herd_->kill_one();
    }
    daemon_.restart();
}

// As many clients as a pool admits: one more is refused by that limit's error and nothing else.
void Chaos::crowd_in(const std::string& pool) {
    std::vector<mempool::Client> crowd;
    int error = 0;
    while (error == 0 && crowd.size() <= kMostClients) {
        try {
            crowd.push_back(mempool::Client::attach(pool, {.socket = daemon_.socket_path()}));
        } catch (const mempool::Error& e) {
            error = e.code().value();
        }
    }
    EXPECT_EQ(error, EUSERS) << "after " << crowd.size() << " clients";
    for (int newcomers = 0; newcomers < 4; ++newcomers) {  // some of them to this pool
        herd_->kill_one();
    }
    pause(10'000);
    ++counts_.crowds;
}

void Chaos::fill_or_empty_shm() {
    if (!shm_.made()) {
        return;
    }
    if (filler_) {
        filler_.reset();
    } else {
        filler_ = std::make_unique<ShmFiller>();
        ++counts_.fillings;
    }
}

void Chaos::account() {
    Report report;
    const Tally& tally = herd_->tally();
    const Herd::Counts& herd = herd_->counts();
    EXPECT_EQ(tally.violations.load(), 0U) << tally.first_violation.data();
    EXPECT_GT(tally.adopted.load(), 0U);
    report.add("seed", options_.seed);
    report.add("seconds",
               std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - start_).count());
    report.add("clients started", herd.started);
    report.add("clients killed", herd.killed);
    report.add("  of these while stopped", herd.killed_stopped);
    report.add("clients stopped", herd.stopped);
    report.add("clients that ended by themselves", herd.ended);
    report.add("daemons killed", counts_.daemon_kills);
    report.add("daemons ended by SIGTERM", counts_.daemon_restarts);
    report.add("daemons stopped", counts_.daemon_stops);
    report.add("reloads", counts_.reloads);
    report.add("times a pool had its most clients", counts_.crowds);
    report.add("times /dev/shm was full", counts_.fillings);
    report.add("attaches", tally.attached.load());
    report.add("  refused at the limit", tally.refused.load());
    report.add("  without a daemon", tally.unanswered.load());
    report.add("gets", tally.gets.load());
    report.add("  by waiting", tally.waited.load());
    report.add("handles sent", tally.sent.load());
    report.add("  adopted", tally.adopted.load());
    report.add("  stale", tally.stale.load());
    std::uint64_t slots = 0;
    std::uint64_t free = 0;
    std::uint64_t findings = 0;
    mempool::PoolStatus sum;
    for (const std::string& pool : pools_) {
        expect_whole(daemon_.socket_path(), pool);
        const auto inspector = mempool::Inspector::open(pool, {.socket = daemon_.socket_path()});
        const mempool::PoolStatus status = inspector.status();
        slots += status.slots;
        free += status.free;
        sum.reclaimed += status.reclaimed;
        sum.grown += status.grown;
        sum.grow_failures += status.grow_failures;
        sum.steals += status.steals;
        findings += inspector.audit().findings.size();
    }
    report.add("magazines stolen", sum.steals);
    report.add("segments grown", sum.grown);
    report.add("  refused by the system", sum.grow_failures);
    report.add("slots reclaimed from the dead", sum.reclaimed);
    report.add("slots, all free", std::to_string(free) + " of " + std::to_string(slots));
    report.add("slots lost", slots - free);
    report.add("slots with two holders, refused returns", tally.violations.load());
    report.add("audit", findings == 0 ? "clean" : std::to_string(findings) + " findings");
    report.print();
}

void Chaos::pause(std::uint32_t most_us) {
    std::this_thread::sleep_for(std::chrono::microseconds{random_() % (most_us + 1)});
}

}  // namespace mempool_test
