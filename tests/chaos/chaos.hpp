// What a herd of clients and a daemon go through, at random: kills, stops, restarts, crowds, a full
// /dev/shm, growth; and the account at the end.
//
// Used by the chaos test. Its failures are GoogleTest's, of the running test.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "chaos/herd.hpp"
#include "chaos/options.hpp"
#include "support/daemon_process.hpp"
#include "support/small_shm.hpp"

namespace mempool_test {

class Chaos {
public:
    explicit Chaos(const ChaosOptions& options);
    Chaos(const Chaos&) = delete;
    Chaos& operator=(const Chaos&) = delete;
    ~Chaos();

    /// Until all has happened that shall, or something failed; then the account, in a table. What
    /// is thrown on the way is a failure.
    void run();

private:
    using Clock = std::chrono::steady_clock;
    struct Counts {
        std::uint64_t daemon_kills = 0;
        std::uint64_t daemon_stops = 0;     ///< SIGSTOP
        std::uint64_t daemon_restarts = 0;  ///< by SIGTERM
        std::uint64_t reloads = 0;          ///< SIGHUP
        std::uint64_t crowds = 0;           ///< pools filled with clients to their limit
        std::uint64_t fillings = 0;         ///< of /dev/shm
    };

    void live();
    void strike();
    void end_daemon();
    void crowd_in(const std::string& pool);
    void fill_or_empty_shm();
    /// False, after a failure, if nobody has got a slot for long.
    bool goes_on();
    [[nodiscard]] bool is_over() const;
    [[nodiscard]] double progress() const;
    void account();
    void pause(std::uint32_t most_us);
    bool one_in(std::uint32_t n) { return random_() % n == 0; }

    ChaosOptions options_;
    std::mt19937_64 random_;
    SmallShm shm_;  // before all who shall see it
    std::vector<std::string> pools_;
    DaemonProcess daemon_;
    std::unique_ptr<Herd> herd_;
    std::unique_ptr<ShmFiller> filler_;
    Counts counts_;
    Clock::time_point start_ = Clock::now();
    std::uint64_t seen_gets_ = 0;
    Clock::time_point seen_at_ = Clock::now();
};

}  // namespace mempool_test
