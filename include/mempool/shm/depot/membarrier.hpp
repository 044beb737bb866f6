// A memory barrier on all processors at once (membarrier(2)), so that fast paths need none.
//
// barrier() makes every running thread of every registered process execute a full barrier: what
// such a thread stored before is then seen by the caller, and what the caller stored before is seen
// by that thread's later loads. So one side of a store-then-load exchange (Dekker) pays nothing,
// and the other, seldom, a system call.
#pragma once

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mempool::shm {

/// Makes this process one that barrier() of others reaches; false where the kernel or a seccomp
/// filter refuses it. Cheap when repeated; a forked child must call it again.
inline bool register_for_barriers() noexcept {
    return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/// The barrier; false where it is refused: then nothing of the above holds.
inline bool barrier() noexcept {
    return ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

}  // namespace mempool::shm
