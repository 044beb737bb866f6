// The siege: a daemon of an ordinary user with two pools, users without rights who do their worst,
// and clients of the pool that they have no right on.
//
// Used by the siege test, by one thread. Its failures are GoogleTest's, of the running test. Needs
// root, to be many users; everything else that it starts is one of these.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mempool/inspect.hpp>
#include <string>
#include <vector>

#include "siege/attacker.hpp"
#include "siege/besieged.hpp"
#include "siege/daemon_figures.hpp"
#include "siege/ledger.hpp"
#include "siege/options.hpp"
#include "support/daemon_process.hpp"

namespace mempool_test {

class Siege {
public:
    explicit Siege(const SiegeOptions& options);
    Siege(const Siege&) = delete;
    Siege& operator=(const Siege&) = delete;
    ~Siege();

    /// Peace, siege, peace again; then the account, in tables.
    void run();

private:
    using Clock = std::chrono::steady_clock;
    struct Process {
        std::string name;
        pid_t pid = -1;
        std::uint32_t life = 0;  ///< of a worker
    };

    void start_daemon();
    void start_besieged();
    void start_worker(std::uint32_t life);
    /// SIGKILLs a worker, and starts another in its place.
    void replace_worker();
    void start_attackers();
    /// One attacker after the other, for `life` each, until the siege is over.
    void besiege_in_turns(const std::vector<std::size_t>& acts, std::chrono::seconds life,
                          std::chrono::milliseconds pause, std::uint64_t seed);
    pid_t start(uid_t user, const std::function<void()>& body);
    /// Looks after everything for that long; false, after a failure, if it cannot go on.
    bool watch(std::chrono::milliseconds time);
    bool daemon_answers();
    void grow_work_pool();
    void renew_open_pool();
    void remove_set_aside() const;
    void dismiss(std::vector<Process>& processes, std::chrono::seconds patience, bool must_succeed);
    /// Those of the daemon once it has let go of what attackers left, or when patience ends.
    DaemonFigures settled_figures();
    void judge_daemon() const;
    void judge_acts() const;
    void judge_times() const;
    void print_acts() const;
    void print_account() const;
    [[nodiscard]] std::vector<std::size_t> chosen(Who who) const;
    [[nodiscard]] double per_minute(std::uint64_t count) const;
    [[nodiscard]] double slowdown() const;

    SiegeOptions options_;
    uid_t first_user_;
    Ledger& ledger_;
    Tally& tally_;
    std::array<int, 2> mail_ = {-1, -1};
    TemporaryDirectory scratch_;
    DaemonProcess daemon_;
    Scene scene_;
    std::string work_uuid_;
    std::vector<Process> besieged_;
    std::vector<Process> attackers_;
    double siege_seconds_ = 0;
    DaemonFigures before_;
    DaemonFigures after_;
    mempool::PoolStatus at_end_;
    std::uint64_t answers_ = 0;
    std::uint32_t slowest_answer_ms_ = 0;
    std::uint64_t growths_ = 0;
    std::uint64_t growths_refused_ = 0;
    std::uint64_t reloads_ = 0;
    std::uint32_t next_life_ = 1;
    std::uint64_t workers_killed_ = 0;
    Clock::time_point next_kill_{};
    Clock::time_point next_probe_{};
    Clock::time_point next_growth_{};
    Clock::time_point next_reload_{};
};

}  // namespace mempool_test
