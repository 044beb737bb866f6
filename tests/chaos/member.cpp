#include "chaos/member.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <iostream>
#include <mempool/client.hpp>
#include <new>
#include <optional>
#include <system_error>
#include <thread>

namespace mempool_test {

namespace {

using Clock = std::chrono::steady_clock;

// While the daemon is down, or goes down with our question on the way.
bool says_no_daemon(int error) {
    constexpr std::array kErrors = {ENOENT, ECONNREFUSED, ECONNRESET, ETIMEDOUT};
    return std::find(kErrors.begin(), kErrors.end(), error) != kErrors.end();
}

std::optional<mempool::Client> try_attach(const MemberSetup& setup, Tally& tally) {
    try {
        auto client = mempool::Client::attach(setup.pool, {.socket = setup.socket});
        tally.attached.fetch_add(1);
        return client;
    } catch (const mempool::Error& e) {
        if (e.code().value() == EUSERS) {
            tally.refused.fetch_add(1);
        } else if (says_no_daemon(e.code().value())) {
            tally.unanswered.fetch_add(1);
        } else {
            tally.accuse(std::string("attach failed: ") + e.what());
        }
        return std::nullopt;
    }
}

void work(mempool::Client& client, Tally& tally, const WorkerOptions& options,
          Clock::time_point end, bool abandon) {
    Worker worker(client, tally, options);
    for (std::uint32_t k = 0; tally.stop.load(std::memory_order_relaxed) == 0; ++k) {
        worker.step();
        if (k % 64 == 0 && Clock::now() > end) {
            break;
        }
    }
    if (abandon) {
        tally.bury(options.life);
        ::_exit(0);
    }
    worker.finish();
}

}  // namespace

Tally& map_tally(int fd) {
    void* shared = ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "the tally");
    }
    return *static_cast<Tally*>(shared);  // zeros are its beginning
}

std::vector<std::string> arguments_of(const MemberSetup& s) {
    return {kMemberFlag,
            s.socket,
            s.pool,
            std::to_string(s.life),
            std::to_string(s.seed),
            std::to_string(s.threads),
            std::to_string(s.most_held),
            std::to_string(s.tally),
            std::to_string(s.mail[0]),
            std::to_string(s.mail[1])};
}

MemberSetup setup_of(const std::vector<std::string>& a) {
    const auto number = [&a](std::size_t k) {
        return static_cast<std::uint32_t>(std::stoul(a.at(k)));
    };
    return {.socket = a.at(1),
            .pool = a.at(2),
            .life = number(3),
            .seed = number(4),
            .threads = number(5),
            .most_held = number(6),
            .tally = std::stoi(a.at(7)),
            .mail = {std::stoi(a.at(8)), std::stoi(a.at(9))}};
}

int live_as_member(const MemberSetup& setup) {
    Tally& tally = map_tally(setup.tally);
    std::mt19937 random(setup.seed);
    while (tally.stop.load() == 0) {
        std::optional<mempool::Client> client = try_attach(setup, tally);
        if (!client) {
            std::this_thread::sleep_for(std::chrono::milliseconds{1 + random() % 3});
            continue;
        }
        const auto end = Clock::now() + std::chrono::milliseconds{1 + random() % 400};
        const bool last = random() % 4 == 0;
        const bool abandon = last && random() % 2 == 0;
        const auto options = [&] {
            return WorkerOptions{.life = setup.life,
                                 .most_held = setup.most_held,
                                 .seed = static_cast<std::uint32_t>(random()),
                                 .mail = setup.mail};
        };
        std::vector<std::thread> threads;
        for (std::uint32_t t = 1; t < setup.threads; ++t) {
            threads.emplace_back([&, mine = options()] { work(*client, tally, mine, end, false); });
        }
        work(*client, tally, options(), end, abandon);
        for (std::thread& thread : threads) {
            thread.join();
        }
        if (last) {
            return 0;
        }
    }
    return 0;
}

}  // namespace mempool_test
