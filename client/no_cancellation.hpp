// Puts off a pthread_cancel() while the library makes system calls.
//
// Used around everything in the library that may call a cancellation point (connect, sendmsg, poll,
// open, close …): a cancellation there would unwind through noexcept functions, which ends the
// whole process, or leave a half-made change. It takes effect at the thread's next cancellation
// point after the call. Never wraps a fast path: that makes no system call.
#pragma once

#include <pthread.h>

namespace mempool::detail {

/// Cancellation of this thread is disabled while the object lives. May nest.
class NoCancellation {
public:
    NoCancellation() noexcept { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    NoCancellation(const NoCancellation&) = delete;
    NoCancellation& operator=(const NoCancellation&) = delete;
    ~NoCancellation() { ::pthread_setcancelstate(before_, nullptr); }

private:
    int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace mempool::detail
