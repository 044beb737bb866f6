// The worker: what runs where, in which order, and what happens to it at the end.
#include "daemon/base/worker.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <csignal>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

namespace mempoold {
namespace {

class WorkerTest : public testing::Test {
protected:
    // Keeps the worker's thread busy until the promise is kept.
    std::promise<void> occupy() {
        std::promise<void> end;
        worker_.submit([wait = end.get_future().share()] { wait.wait(); }, [] {});
        return end;
    }

    boost::asio::io_context io_;
    Worker worker_{io_};
};

TEST_F(WorkerTest, WorksOnItsThreadAndIsDoneOnTheLoop) {
    const auto loop = std::this_thread::get_id();
    std::thread::id worked;
    std::thread::id done;
    worker_.submit([&] { worked = std::this_thread::get_id(); },
                   [&] { done = std::this_thread::get_id(); });
    io_.run();  // returns once nothing is under way
    EXPECT_NE(worked, std::thread::id{});
    EXPECT_NE(worked, loop);
    EXPECT_EQ(done, loop);
}

TEST_F(WorkerTest, JobsOfManyStepsTakeTurns) {
    std::string order;
    std::promise<void> both = occupy();
    for (const char name : {'a', 'b'}) {
        worker_.submit_steps(
            [&order, name, left = 3]() mutable {
                order += name;
                return --left == 0;
            },
            [] {});
    }
    both.set_value();
    io_.run();
    EXPECT_EQ(order, "ababab");
}

TEST_F(WorkerTest, TurnsOnTheLoopAreSharedAndLetOthersIn) {
    std::string order;
    for (const char name : {'a', 'b'}) {
        worker_.take_turns([&order, name, left = 2]() mutable {
            order += name;
            return --left == 0;
        });
    }
    boost::asio::post(io_, [&] { order += '-'; });
    EXPECT_EQ(order, "") << "never before it returns";
    io_.run();
    EXPECT_EQ(order, "a-bab");
}

TEST_F(WorkerTest, AFaultOfAJobIsThrownFromTheLoop) {
    bool done = false;
    worker_.submit([] { throw std::runtime_error("broken"); }, [&] { done = true; });
    EXPECT_THROW(io_.run(), std::runtime_error);
    EXPECT_FALSE(done);
}

TEST_F(WorkerTest, StopDropsWhatIsNotDoneAndDestroysItHere) {
    struct Witness {
        ~Witness() { *destroyed_by = std::this_thread::get_id(); }
        std::thread::id* destroyed_by;
    };
    std::thread::id destroyed_by;
    bool done = false;
    std::promise<void> begun;
    worker_.submit([&] { begun.set_value(); }, [&] { done = true; });
    begun.get_future().wait();
    auto witness = std::make_shared<Witness>(&destroyed_by);
    worker_.submit_steps([kept = std::move(witness)] { return false; }, [&] { done = true; });
    worker_.take_turns([&] { return done = true; });
    worker_.stop();
    EXPECT_EQ(destroyed_by, std::this_thread::get_id());
    worker_.submit([&] { done = true; }, [] {});
    worker_.stop();
    io_.run();
    EXPECT_FALSE(done);
}

TEST_F(WorkerTest, ItsThreadGetsNoSignalButOfItsOwnFaults) {
    sigset_t blocked;
    ::sigemptyset(&blocked);
    worker_.submit([&] { ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked); }, [] {});
    io_.run();
    EXPECT_EQ(::sigismember(&blocked, SIGTERM), 1);
    EXPECT_EQ(::sigismember(&blocked, SIGHUP), 1);
    EXPECT_EQ(::sigismember(&blocked, SIGBUS), 0);
    sigset_t mine;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mine);
    EXPECT_EQ(::sigismember(&mine, SIGTERM), 0);
}

}  // namespace
}  // namespace mempoold
