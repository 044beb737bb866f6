// A fake pool behind a fake daemon, for tests of the library inside one process.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "client/fake_daemon.hpp"
#include "client/fake_pool.hpp"
#include "mempool/client.hpp"

namespace mempool_test {

/// One pool, served.
struct Served {
    explicit Served(const FakePoolOptions& options = {}, FakeDaemon::Twist twist = {})
        : pool(options), daemon({&pool}, std::move(twist)) {}

    [[nodiscard]] mempool::Client attach() const {
        return mempool::Client::attach(pool.name(), daemon.options());
    }

    FakePool pool;
    FakeDaemon daemon;
};

/// All slots that `client` can get.
inline std::vector<mempool::Slot> get_all(mempool::Client& client) {
    std::vector<mempool::Slot> slots;
    while (auto slot = client.get()) {
        slots.push_back(std::move(slot));
    }
    return slots;
}

/// Runs `step` and expects an Error with that errno whose text contains `text`.
template <typename Step>
void expect_error(int error, const std::string& text, Step step) {
    try {
        step();
        ADD_FAILURE() << "no Error was thrown";
    } catch (const mempool::Error& e) {
        EXPECT_EQ(e.code(), std::error_code(error, std::generic_category())) << e.what();
        EXPECT_THAT(e.what(), testing::HasSubstr(text));
    }
}

}  // namespace mempool_test
