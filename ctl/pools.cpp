#include "pools.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace mempoolctl {

DaemonAnswer ask_daemon(const mempool::AttachOptions& options) {
    try {
        return {mempool::Admin::connect(options).daemon_version(), {}};
    } catch (const mempool::Error& error) {
        return {{}, error.what()};
    }
}

bool note_whether_served(const Invocation& invocation, std::string_view pool) {
    const std::vector<mempool::FoundPool> pools = mempool::find_pools(invocation.attach);
    const bool served = std::any_of(pools.begin(), pools.end(), [&](const mempool::FoundPool& p) {
        return p.served && p.name == pool;
    });
    if (!served && !invocation.json) {
        const DaemonAnswer daemon = ask_daemon(invocation.attach);
        print_note(fmt::format("pool '{}' is read from shared memory alone: {}", pool,
                               daemon.version.empty()
                                   ? daemon.problem
                                   : daemon.version + ", answers but doesn't serve it"));
    }
    return served;
}

void print_note(std::string_view text) { fmt::print(stderr, "mempoolctl: {}\n", text); }

}  // namespace mempoolctl
