// Lines on their way to a descriptor whose reader may stand still.
//
// Used by the log, and by its tests with a pipe. push() never waits for the reader; one thread of
// the queue's own writes. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>

namespace mempoold {

class LineQueue {
public:
    /// Lines kept at most. Beyond that the oldest are dropped: the newest say how things are.
    static constexpr std::size_t kMostLines = 4096;

    /// Writes to `fd`, which stays the caller's. `lost` makes the line that says how many were
    /// dropped; it is written in their place.
    LineQueue(int fd, std::function<std::string(std::uint64_t)> lost);
    LineQueue(const LineQueue&) = delete;
    LineQueue& operator=(const LineQueue&) = delete;
    /// Never destroyed, since its thread may stand in write() for ever: see leak in log.cpp.
    ~LineQueue() = delete;

    /// Starts the thread. Throws std::system_error. From now on push() leaves the writing to it.
    void start();
    /// `line` ends with a newline. Before start() it is written at once.
    void push(std::string line);
    /// Waits until all is written, or for `patience`; whether all is.
    bool drain(std::chrono::milliseconds patience);

private:
    void write_all();

    const int fd_;
    const std::function<std::string(std::uint64_t)> lost_;
    std::mutex mutex_;
    std::condition_variable pushed_;
    std::condition_variable written_;
    std::deque<std::string> lines_;
    std::uint64_t dropped_ = 0;
    bool started_ = false;
    bool writing_ = false;
};

}  // namespace mempoold
