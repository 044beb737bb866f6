#include "pools.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace mempoolctl {

namespace {

constexpr std::chrono::milliseconds kPatience{1000};

mempool::AttachOptions impatient(mempool::AttachOptions options) {
    options.timeout = std::min(options.timeout, kPatience);
    return options;
}

}  // namespace

DaemonAnswer ask_daemon(const mempool::AttachOptions& options) {
    try {
        return {mempool::Admin::connect(impatient(options)).daemon_version(), {}};
    } catch (const mempool::Error& error) {
        return {{}, error.what()};
    }
}

mempool::LookAt look_at(const DaemonAnswer& daemon) {
    return daemon.version.empty() ? mempool::LookAt::kMemory : mempool::LookAt::kDaemon;
}

mempool::Admin connect_to_daemon(const mempool::AttachOptions& options) {
    static_cast<void>(mempool::Admin::connect(impatient(options)).daemon_version());
    return mempool::Admin::connect(options);
}

bool note_whether_served(const Invocation& invocation, const mempool::Inspector& inspector) {
    if (!inspector.served() && !invocation.json) {
        print_note(inspector.note());
    }
    return inspector.served();
}

void print_note(std::string_view text) { fmt::print(stderr, "mempoolctl: {}\n", text); }

}  // namespace mempoolctl
