// Where work goes that would hold up the event loop: one thread for what waits for the system, and
// turns on the loop for what changes a pool's words and takes long.
//
// Made by Daemon, used by ServedPool and the supervisor, on the loop. What runs on the thread only
// allocates, writes bytes or reads: it changes no word of a pool that anybody looks at, and it gets
// what it works on from the loop, as a list of its own. Jobs are done in steps, and take turns
// after each step, so a long one holds up no other for longer than a step of its own.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace mempoold {

class Worker {
public:
    using Work = std::function<void()>;
    using Step = std::function<bool()>;  ///< whether it was the last one
    using Done = std::function<void()>;

    /// Starts the thread, which handles no signal but those of its own faults. Throws
    /// std::system_error.
    explicit Worker(boost::asio::io_context& io);
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    /// As stop().
    ~Worker();

    /// Runs `step` on the thread until it returns true, then `done` on the loop. What they own is
    /// destroyed on the loop. What a step throws is thrown from the loop, and `done` not called.
    void submit_steps(Step step, Done done);
    /// The same for work of one step, which should end within a few hundredths of a second.
    void submit(Work work, Done done);

    /// Calls `step` on the loop, once each turn of it, until it returns true. All steps given here
    /// share one place in the loop: many of them don't make others wait for longer. Never calls it
    /// before it returns.
    void take_turns(Step step);

    /// Waits for the step under way, and drops all other work: what is not done then is never
    /// called. Later calls do nothing.
    void stop() noexcept;

private:
    struct Job {
        Step step;
        Done done;
        // The loop has something to wait for meanwhile: its run() doesn't return.
        boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard;
        std::exception_ptr fault;
    };

    void run();
    void finish_one();
    void next_turn();

    boost::asio::io_context& io_;
    std::mutex mutex_;  // of the next four
    std::condition_variable wake_;
    std::deque<Job> queue_;
    std::deque<Job> finished_;
    bool stopping_ = false;
    std::deque<Step> turns_;    // the loop's own
    bool turn_posted_ = false;  // the loop's own
    std::thread thread_;
};

}  // namespace mempoold
