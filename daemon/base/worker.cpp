#include "daemon/base/worker.hpp"

#include <pthread.h>

#include <boost/asio/post.hpp>
#include <csignal>
#include <utility>

namespace mempoold {

namespace {

// Signals meant for the daemon go to the loop's thread; a fault is handled by whoever causes it.
class BlockSignals {
public:
    BlockSignals() noexcept {
        sigset_t others;
        ::sigfillset(&others);
        for (const int signal : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
            ::sigdelset(&others, signal);
        }
        ::pthread_sigmask(SIG_SETMASK, &others, &former_);
    }
    BlockSignals(const BlockSignals&) = delete;
    BlockSignals& operator=(const BlockSignals&) = delete;
    ~BlockSignals() { ::pthread_sigmask(SIG_SETMASK, &former_, nullptr); }

private:
    sigset_t former_{};
};

}  // namespace

Worker::Worker(boost::asio::io_context& io) : io_(io) {
    const BlockSignals inherited;
    thread_ = std::thread([this] { run(); });
}

Worker::~Worker() { stop(); }

void Worker::submit_steps(Step step, Done done) {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) {
            return;
        }
        queue_.push_back({std::move(step), std::move(done), boost::asio::make_work_guard(io_), {}});
    }
    wake_.notify_one();
}

void Worker::submit(Work work, Done done) {
    submit_steps(
        [work = std::move(work)] {
            work();
            return true;
        },
        std::move(done));
}

void Worker::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (stopping_) {
            return;
        }
        Job job = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        bool last = true;
        try {
            last = job.step();
        } catch (...) {
            job.fault = std::current_exception();
        }
        lock.lock();
        // Back to where the loop destroys it, whatever happens.
        (last ? finished_ : queue_).push_back(std::move(job));
        if (last && !stopping_) {
            boost::asio::post(io_, [this] { finish_one(); });
        }
    }
}

void Worker::finish_one() {
    std::unique_lock lock(mutex_);
    if (finished_.empty()) {
        return;  // dropped
    }
    const Job job = std::move(finished_.front());
    finished_.pop_front();
    lock.unlock();
    if (job.fault) {
        std::rethrow_exception(job.fault);
    }
    job.done();
}

void Worker::take_turns(Step step) {
    if (stopping_) {  // written on the loop only
        return;
    }
    turns_.push_back(std::move(step));
    if (!std::exchange(turn_posted_, true)) {
        boost::asio::post(io_, [this] { next_turn(); });
    }
}

void Worker::next_turn() {
    turn_posted_ = false;
    if (turns_.empty()) {
        return;  // dropped
    }
    Step step = std::move(turns_.front());
    turns_.pop_front();
    if (!step()) {
        turns_.push_back(std::move(step));
    }
    if (!turns_.empty() && !std::exchange(turn_posted_, true)) {
        boost::asio::post(io_, [this] { next_turn(); });
    }
}

void Worker::stop() noexcept {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) {
        thread_.join();
    }
    // Moved out first: what a job owns may come back here as it goes.
    const auto queue = std::exchange(queue_, {});
    const auto finished = std::exchange(finished_, {});
    const auto turns = std::exchange(turns_, {});
}

}  // namespace mempoold
