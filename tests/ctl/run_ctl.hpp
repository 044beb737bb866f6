// Running the real mempoolctl, against a real daemon.
//
// Used by the tests of this folder only.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {

using Json = nlohmann::json;

/// Where mempoolctl's standard output goes.
enum class Stdout : std::uint8_t {
    kFile,
    kTerminal,    ///< a pseudo terminal, with TERM=xterm
    kClosedPipe,  ///< nobody reads it
    kFullDevice,  ///< /dev/full
    kSlowPipe,    ///< of one page, read once `meanwhile` has returned
};

struct CtlOptions {
    Stdout out = Stdout::kFile;
    std::vector<std::string> environment{};  ///< further NAME=VALUE
    unsigned uid = 0;                        ///< run as this user instead of our own, if not 0
    std::function<void()> meanwhile{};       ///< called when output waits in the pipe
};

/// Runs mempoolctl with exactly these arguments to its end. MEMPOOL_SOCKET and NO_COLOR are not
/// passed on. What went to a closed pipe or a full device is not in the result.
Finished run_ctl(std::vector<std::string> arguments, const CtlOptions& options = {});

/// A daemon with one pool of 64 slots of 4 KiB, up to 256, and mempoolctl pointed at it.
class CtlTest : public ::testing::Test {
protected:
    void SetUp() override { daemon_.start({"--pool", pool_ + ":4KiBx64,max_slots=256"}); }

    /// mempoolctl --socket OURS arguments…
    [[nodiscard]] Finished ctl(std::vector<std::string> arguments,
                               const CtlOptions& options = {}) const {
        arguments.insert(arguments.begin(), {"--socket", daemon_.socket_path()});
        return run_ctl(std::move(arguments), options);
    }
    /// Its answer with --json; fails the test if it ends with anything but `status`.
    [[nodiscard]] Json ctl_json(std::vector<std::string> arguments, int status = 0) const {
        arguments.emplace_back("--json");
        const Finished finished = ctl(std::move(arguments));
        EXPECT_EQ(finished.status, status) << finished.err;
        EXPECT_TRUE(Json::accept(finished.out)) << finished.out;
        return Json::parse(finished.out, nullptr, false);
    }
    [[nodiscard]] Json status() const { return ctl_json({"status", pool_}); }

    /// Waits until `done`, which the daemon brings about in its own time.
    static void eventually(const std::function<bool()>& done) {
        for (int i = 0; i < 1000; ++i) {
            if (done()) {
                return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
        FAIL() << "waited in vain";
    }

    std::string pool_ = unique_pool("ctl");
    DaemonProcess daemon_;
};

}  // namespace mempool_test
