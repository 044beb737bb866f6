#include "daemon/base/line_queue.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <thread>
#include <utility>

#include "daemon/base/thread.hpp"

namespace mempoold {

namespace {

// A reader that is gone (EPIPE), a full disk: the line is lost, the daemon goes on.
void write_line(int fd, std::string_view line) noexcept {
    while (!line.empty()) {
        const ssize_t put = ::write(fd, line.data(), line.size());
        if (put >= 0) {
            line.remove_prefix(static_cast<std::size_t>(put));
        } else if (errno == EAGAIN) {
            // Whoever shares the descriptor made it non-blocking.
            pollfd writable{fd, POLLOUT, 0};
            ::poll(&writable, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

}  // namespace

LineQueue::LineQueue(int fd, std::function<std::string(std::uint64_t)> lost)
    : fd_(fd), lost_(std::move(lost)) {}

void LineQueue::start() {
    start_thread([this] { write_all(); });
    const std::lock_guard lock(mutex_);
    started_ = true;
}

void LineQueue::push(std::string line) {
    {
        const std::lock_guard lock(mutex_);
        if (started_) {
            if (lines_.size() == kMostLines) {
                lines_.pop_front();
                ++dropped_;
            }
            lines_.push_back(std::move(line));
            pushed_.notify_one();
            return;
        }
    }
    write_line(fd_, line);
}

bool LineQueue::drain(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return written_.wait_for(lock, patience, [this] { return lines_.empty() && !writing_; });
}

void LineQueue::write_all() {
    std::unique_lock lock(mutex_);
    for (;;) {
        pushed_.wait(lock, [this] { return !lines_.empty(); });
        std::string line = dropped_ != 0 ? lost_(std::exchange(dropped_, 0)) : std::string();
        line += lines_.front();
        lines_.pop_front();
        writing_ = true;
        lock.unlock();
        write_line(fd_, line);
        lock.lock();
        writing_ = false;
        if (lines_.empty()) {
            written_.notify_all();
        }
    }
}

}  // namespace mempoold
