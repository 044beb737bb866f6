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
#include <cstring>
#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <new>
#include <span>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace mempool_test {

namespace {

using mempool::Client;
using mempool::Handle;
using mempool::Slot;

// One thread of one member at work.
class Worker {
public:
    Worker(Client& client, Tally& tally, std::array<int, 2> mail, std::uint32_t most,
           std::uint32_t seed)
        : client_(client), tally_(tally), mail_(mail), most_(most), random_(seed) {}

    void run() {
        while (tally_.stop.load(std::memory_order_relaxed) == 0) {
            step();
        }
        while (!held_.empty()) {
            put();
        }
    }

private:
    struct Held {
        Slot slot;
        std::uint64_t stamp = 0;
    };

    void step() {
        switch (random_() % 9) {
            case 0:
            case 1:
                keep(client_.get());
                break;
            case 2:
                get_bulk();
                break;
            case 3:
                keep(client_.get_for(std::chrono::microseconds{200}));
                break;
            case 4:
                send();
                break;
            case 5:
                receive();
                break;
            default:
                put();
        }
    }

    void keep(Slot slot) {
        if (!slot) {
            put();  // exhausted: make room for the others
            return;
        }
        if (held_.size() >= most_) {
            put();
        }
        const std::uint64_t stamp = (std::uint64_t{random_()} << 32U) | random_();
        write(slot, stamp);
        held_.push_back({std::move(slot), stamp});
        tally_.gets.fetch_add(1, std::memory_order_relaxed);
    }

    void get_bulk() {
        std::array<Slot, 7> slots;
        const std::size_t got = client_.get_bulk(slots);
        for (std::size_t k = 0; k < got; ++k) {
            keep(std::move(slots.at(k)));
        }
    }

    void put() {
        if (held_.empty()) {
            return;
        }
        std::swap(held_[random_() % held_.size()], held_.back());
        Held held = std::move(held_.back());
        held_.pop_back();
        check(held.slot, held.stamp);
        if (random_() % 4 == 0) {
            (void)held.slot.handle();  // somebody might know it now: another way to return
        }
        if (client_.put(std::move(held.slot))) {
            tally_.violations.fetch_add(1);
        }
        tally_.puts.fetch_add(1, std::memory_order_relaxed);
    }

    // The handle itself is the stamp of a slot under way.
    void send() {
        if (held_.empty()) {
            return;
        }
        Held held = std::move(held_.back());
        held_.pop_back();
        check(held.slot, held.stamp);
        const Handle handle = held.slot.handle();
        write(held.slot, handle.value());
        if (random_() % 2 == 0) {
            if (!held.slot.detach()) {
                tally_.violations.fetch_add(1);
            }
        } else {
            held.slot.release();
        }
        const std::uint64_t value = handle.value();
        if (::write(mail_[1], &value, sizeof(value)) == sizeof(value)) {
            tally_.sent.fetch_add(1, std::memory_order_relaxed);
        } else if (client_.put(handle)) {  // the pipe is full: back it goes
            tally_.violations.fetch_add(1);
        }
    }

    void receive() {
        std::uint64_t value = 0;
        if (::read(mail_[0], &value, sizeof(value)) != sizeof(value)) {
            return;
        }
        std::error_code error;
        Slot slot = client_.adopt(Handle{value}, error);
        if (!slot) {
            tally_.stale.fetch_add(1, std::memory_order_relaxed);
            if (error != mempool::Errc::kStale) {
                tally_.violations.fetch_add(1);
            }
            return;
        }
        check(slot, value);
        tally_.adopted.fetch_add(1, std::memory_order_relaxed);
        held_.push_back({std::move(slot), value});
    }

    static void write(const Slot& slot, std::uint64_t stamp) {
        const std::uint64_t inverse = ~stamp;
        std::memcpy(slot.data(), &stamp, sizeof(stamp));
        std::memcpy(slot.data() + slot.size() - sizeof(inverse), &inverse, sizeof(inverse));
    }

    void check(const Slot& slot, std::uint64_t stamp) {
        std::uint64_t first = 0;
        std::uint64_t last = 0;
        std::memcpy(&first, slot.data(), sizeof(first));
        std::memcpy(&last, slot.data() + slot.size() - sizeof(last), sizeof(last));
        if (first != stamp || last != ~stamp) {
            tally_.violations.fetch_add(1);
        }
    }

    Client& client_;
    Tally& tally_;
    std::array<int, 2> mail_;
    std::uint32_t most_;
    std::mt19937 random_;
    std::vector<Held> held_;
};

// The whole life of a member. Attaching fails while the daemon is down: tried again.
void live(const CrewOptions& options, Tally& tally, std::array<int, 2> mail) {
    const auto seed = static_cast<std::uint32_t>(::getpid());
    while (tally.stop.load() == 0) {
        try {
            Client client = Client::attach(options.pool, {.socket = options.socket});
            tally.attached.fetch_add(1);
            std::vector<std::thread> threads;
            for (std::uint32_t t = 1; t < options.threads; ++t) {
                threads.emplace_back([&, t] {
                    Worker(client, tally, mail, options.most_held, seed + (t << 24U)).run();
                });
            }
            Worker(client, tally, mail, options.most_held, seed).run();
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
        members_.push_back(start_one());
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

pid_t Crew::start_one() {
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        live(options_, *tally_, mail_);
        ::_exit(0);
    }
    return child;
}

void Crew::replace_one() {
    pid_t& member = members_.at(random_() % members_.size());
    ::kill(member, SIGKILL);
    int status = 0;
    ::waitpid(member, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        ADD_FAILURE() << "a member ended by itself, wait status " << status;
    }
    member = start_one();
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
