// The clients of the work pool: they attach, work, check each other's stamps, and leave, in peace
// and under siege, and measure how long it takes them.
//
// Forked by the siege, of which each is one process; a failure is an accusation in the tally.
#pragma once

#include <string>

#include "multiprocess/worker.hpp"
#include "siege/ledger.hpp"

namespace mempool_test {

/// What each of them knows.
struct Besieged {
    std::string socket;
    std::string pool;
    Tally& tally;
    Ledger& ledger;
};

/// Each works until tally.stop, pausing often: it must leave the processor to attackers and daemon.
void time_pairs(const Besieged& b);
void time_attaches(const Besieged& b);
/// As a worker of tests/multiprocess; `options` as there.
void work_and_return(const Besieged& b, const WorkerOptions& options);

}  // namespace mempool_test
