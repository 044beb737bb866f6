// One thread of a client at work on a pool, which checks itself; and what all of them did.
//
// Used by Crew's forked members and by the executed ones of tests/chaos. A worker gets slots one by
// one, in bulk and by waiting, writes a stamp into each, hands some over through a pipe, and
// compares the stamp before it returns one. It may be killed or stopped at any moment.
//
// A slot has two holders when a get finds in it the stamp of somebody who still is at work, when a
// stamp is overwritten, or when a return is refused. A stamp names the life (a process) that wrote
// it, and the tally says which lives are over: whoever kills a process says so first.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mempool/client.hpp>
#include <random>
#include <string>
#include <vector>

namespace mempool_test {

constexpr std::uint32_t kMostLives = 1U << 18U;

/// In memory that all share. Counters only grow.
struct Tally {
    std::atomic<std::uint64_t> attached;
    std::atomic<std::uint64_t> gets;
    std::atomic<std::uint64_t> puts;
    std::atomic<std::uint64_t> sent;
    std::atomic<std::uint64_t> adopted;
    std::atomic<std::uint64_t> stale;       ///< adoptions refused: the sender died first
    std::atomic<std::uint64_t> waited;      ///< slots that get_for() brought
    std::atomic<std::uint64_t> refused;     ///< attaches refused: the pool has its most clients
    std::atomic<std::uint64_t> unanswered;  ///< attaches that found no daemon
    std::atomic<std::uint64_t> violations;  ///< two holders, wrong stamps, returns refused
    std::atomic<std::uint32_t> stop;        ///< 1: return all and leave
    std::atomic<std::uint32_t> accused;     ///< 1: somebody writes, or wrote, first_violation
    std::array<char, 240> first_violation;  ///< text, zero-terminated
    std::array<std::atomic<std::uint8_t>, kMostLives> over;  ///< 1: that life is

    /// From here on stamps of `life` may be found in slots of others: it is about to be killed, or
    /// to end with slots in its hands.
    void bury(std::uint32_t life) { over.at(life).store(1); }
    /// Counts a violation, and keeps the text of the first.
    void accuse(const std::string& what);
};

/// How a worker works, and whom it writes to.
struct WorkerOptions {
    std::uint32_t life = 0;  ///< below kMostLives; no two processes have the same
    std::uint32_t most_held = 40;
    std::uint32_t seed = 0;
    std::array<int, 2> mail = {-1, -1};  ///< a pipe that doesn't block, of all workers of a pool
};

/// Makes no thread; use it in one.
class Worker {
public:
    Worker(mempool::Client& client, Tally& tally, const WorkerOptions& options)
        : client_(client), tally_(tally), options_(options), random_(options.seed) {}

    /// Gets or returns something, mostly.
    void step();
    /// Returns what it has.
    void finish();

private:
    struct Held {
        mempool::Slot slot;
        std::uint64_t stamp = 0;
    };
    struct Letter {
        std::uint64_t handle = 0;
        std::uint64_t stamp = 0;
    };

    void keep(mempool::Slot slot);
    void wait();
    void get_bulk();
    void put();
    void put_bulk();
    void send();
    void receive();
    Held take_one();
    [[nodiscard]] std::uint64_t new_stamp(bool in_mail);
    void expect_nobodys(const mempool::Slot& slot);
    void check(const Held& held, const char* when);

    mempool::Client& client_;
    Tally& tally_;
    WorkerOptions options_;
    std::mt19937 random_;
    std::vector<Held> held_;
};

}  // namespace mempool_test
