#include "multiprocess/crew.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace mempool_test {

namespace {

using mempool::Client;

void work(Client& client, Tally& tally, const WorkerOptions& options) {
    Worker worker(client, tally, options);
    while (tally.stop.load(std::memory_order_relaxed) == 0) {
        worker.step();
    }
    worker.finish();
}

// The whole life of a member. Attaching fails while the daemon is down: tried again.
void live(const CrewOptions& options, Tally& tally, WorkerOptions mine) {
    const auto seed = static_cast<std::uint32_t>(::getpid());
    while (tally.stop.load() == 0) {
        try {
            Client client = Client::attach(options.pool, {.socket = options.socket});
            tally.attached.fetch_add(1);
            std::vector<std::thread> threads;
            for (std::uint32_t t = 1; t < options.threads; ++t) {
                mine.seed = seed + (t << 24U);
                threads.emplace_back([&client, &tally, mine] { work(client, tally, mine); });
            }
            mine.seed = seed;
            work(client, tally, mine);
            for (std::thread& thread : threads) {
                thread.join();
            }
        } catch (const mempool::Error&) {
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
    }
}

}  // namespace

Crew::Crew(CrewOptions options) : options_(std::move(options)) {
    void* shared =
        ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || ::pipe2(mail_.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
        throw std::system_error(errno, std::generic_category(), "crew");
    }
    tally_ = new (shared) Tally{};
    for (std::uint32_t k = 0; k < options_.members; ++k) {
        lives_.push_back(k);
        members_.push_back(start_one(k));
    }
}

Crew::~Crew() {
    for (const pid_t member : members_) {
        ::kill(member, SIGKILL);
        ::waitpid(member, nullptr, 0);
    }
    ::close(mail_[0]);
    ::close(mail_[1]);
    ::munmap(tally_, sizeof(Tally));
}

pid_t Crew::start_one(std::uint32_t life) {
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        live(options_, *tally_, {.life = life, .most_held = options_.most_held, .mail = mail_});
        ::_exit(0);
    }
    return child;
}

void Crew::replace_one() {
    const std::size_t which = random_() % members_.size();
    pid_t& member = members_.at(which);
    tally_->bury(lives_.at(which));
    ::kill(member, SIGKILL);
    int status = 0;
    ::waitpid(member, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        ADD_FAILURE() << "a member ended by itself, wait status " << status;
    }
    lives_.at(which) += static_cast<std::uint32_t>(members_.size());
    member = start_one(lives_.at(which));
}

std::uint32_t Crew::dismiss() {
    tally_->stop.store(1);
    std::uint32_t failed = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes{1};
    for (const pid_t member : members_) {
        int status = 0;
        while (::waitpid(member, &status, WNOHANG) == 0) {
            if (std::chrono::steady_clock::now() > deadline) {
                ADD_FAILURE() << "member " << member << " does not end";
                ::kill(member, SIGKILL);
                ::waitpid(member, &status, 0);
                break;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
        failed += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0U : 1U;
    }
    members_.clear();
    return failed;
}

std::uint32_t setting(const char* name, std::uint32_t usual) {
    const char* text = std::getenv(name);
    return text != nullptr ? static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10)) : usual;
}

void sleep_random(std::mt19937& random, std::uint32_t most_us) {
    std::this_thread::sleep_for(std::chrono::microseconds{random() % (most_us + 1)});
}

void expect_whole(const std::string& socket, const std::string& pool) {
    const mempool::AttachOptions options{.socket = socket};
    auto admin = mempool::Admin::connect(options);
    auto inspector = mempool::Inspector::open(pool, options);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    mempool::PoolStatus status;
    do {
        admin.reclaim(pool, std::chrono::seconds{0});
        status = inspector.status();
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    } while ((status.clients != 0 || status.free != status.slots) &&
             std::chrono::steady_clock::now() < deadline);
    EXPECT_EQ(status.clients, 0U);
    EXPECT_EQ(status.free, status.slots);
    EXPECT_EQ(status.cached, 0U);
    EXPECT_EQ(status.held, 0U);
    EXPECT_EQ(status.detached, 0U);
    EXPECT_EQ(status.unknown, 0U);
    for (const mempool::AuditFinding& finding : inspector.audit().findings) {
        ADD_FAILURE() << finding.text;
    }
}

}  // namespace mempool_test
