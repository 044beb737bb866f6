#include "daemon/storage/fault_guard.hpp"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <stdexcept>

#include "daemon/base/fail.hpp"
#include "mempool/shm/words/layout.hpp"

namespace mempoold {

namespace {

struct Range {
    std::atomic<std::uintptr_t> begin{0};  // 0: this entry is unused
    std::atomic<std::uintptr_t> end{0};
    std::atomic<bool> faulted{false};
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);

// Static, since a signal handler must not follow what may be moving.
std::array<Range, 1024> ranges;

// The loop may give an entry to another range while the worker's thread looks for its own. Who
// reads the new end sees that the old begin is gone: begin is set to 0 before end is stored.
Range* find(std::uintptr_t address) noexcept {
    for (Range& range : ranges) {
        const std::uintptr_t begin = range.begin.load(std::memory_order_acquire);
        if (begin != 0 && address >= begin && address < range.end.load(std::memory_order_acquire) &&
            range.begin.load(std::memory_order_relaxed) == begin) {
            return &range;
        }
    }
    return nullptr;
}

// mmap is a plain system call on Linux, so it may be called here. Two threads that fault in one
// page both put one there: what the first has written into it until then is gone, as the pool is
// anyway.
void handle(int signal, siginfo_t* info, void* /*context*/) {
    const int saved_errno = errno;
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    Range* range = find(address);
    void* page = reinterpret_cast<void*>(address & ~(std::uintptr_t{mempool::shm::kPage} - 1));
    if (range == nullptr || ::mmap(page, mempool::shm::kPage, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
        struct sigaction fatal {};
        fatal.sa_handler = SIG_DFL;
        ::sigaction(signal, &fatal, nullptr);
        ::raise(signal);  // also where it was sent by kill(2) and no access would fault again
        return;
    }
    range->faulted.store(true, std::memory_order_relaxed);
    errno = saved_errno;
}

}  // namespace

void install_fault_handler() {
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    ::sigemptyset(&action.sa_mask);
    if (::sigaction(SIGBUS, &action, nullptr) != 0) {
        fail(errno, "sigaction(SIGBUS)");
    }
}

FaultGuard::FaultGuard(const void* base, std::size_t bytes) {
    while (slot_ < ranges.size() && ranges[slot_].begin.load(std::memory_order_relaxed) != 0) {
        ++slot_;
    }
    if (slot_ == ranges.size()) {
        throw std::runtime_error("more pools than one daemon can serve (1024)");
    }
    Range& range = ranges[slot_];
    const auto begin = reinterpret_cast<std::uintptr_t>(base);
    range.faulted.store(false, std::memory_order_relaxed);
    range.end.store(begin + bytes, std::memory_order_release);
    range.begin.store(begin, std::memory_order_release);
}

FaultGuard::~FaultGuard() { ranges[slot_].begin.store(0, std::memory_order_relaxed); }

bool FaultGuard::faulted() const noexcept {
    return ranges[slot_].faulted.load(std::memory_order_relaxed);
}

}  // namespace mempoold
