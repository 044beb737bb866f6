#include "daemon/base/closer.hpp"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/base/thread.hpp"

namespace mempoold {

namespace {

/// So that a close() that sleeps holds up no other. Only kernels that let descriptors come along
/// (stranger.hpp) need more than one.
constexpr std::size_t kMostThreads = 1024;
constexpr std::size_t kMostIdle = 2;

struct Closing {
    mempool::shm::UniqueFd fd;
    std::shared_ptr<std::atomic<int>> pending;
};

class Closer {
public:
    void push(mempool::shm::UniqueFd fd, std::shared_ptr<std::atomic<int>> pending) {
        const std::lock_guard lock(mutex_);
        waiting_.push_back({std::move(fd), std::move(pending)});
        if (waiting_.size() > idle_ && threads_ < kMostThreads) {
            start_thread([this] { close_all(); });
            ++threads_;
        }
        pushed_.notify_one();
    }

private:
    void close_all() {
        std::unique_lock lock(mutex_);
        while (idle_ < kMostIdle || !waiting_.empty()) {
            ++idle_;
            pushed_.wait(lock, [this] { return !waiting_.empty(); });
            --idle_;
            Closing closing = std::move(waiting_.front());
            waiting_.pop_front();
            lock.unlock();
            closing.fd.reset();
            closing.pending->fetch_sub(1, std::memory_order_relaxed);
            lock.lock();
        }
        --threads_;
    }

    std::mutex mutex_;
    std::condition_variable pushed_;
    std::deque<Closing> waiting_;
    std::size_t threads_ = 0;
    std::size_t idle_ = 0;
};

}  // namespace

void close_elsewhere(mempool::shm::UniqueFd fd,
                     std::shared_ptr<std::atomic<int>> pending) noexcept {
    pending->fetch_add(1, std::memory_order_relaxed);
    try {
        // Leaked: its threads may sleep in close() when the process ends.
        static auto* const kInstance = new Closer;
        kInstance->push(std::move(fd), std::move(pending));
    } catch (const std::exception& e) {
        // It stays in the queue, for a thread that there is or the next that can be started.
        log_warning("cannot start a thread that closes a peer's descriptor: {}", e.what());
    }
}

}  // namespace mempoold
