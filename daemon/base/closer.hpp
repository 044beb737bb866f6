// Closing what may take its time.
//
// The last close() of a descriptor that somebody else made may sleep: a TCP socket with SO_LINGER,
// a file of a FUSE file system. Helper threads do that, so that the event loop never does. Used
// for connections of peers; never for the daemon's own files.
#pragma once

#include <atomic>
#include <memory>

#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

/// Closes `fd` in a helper thread, as soon as one is free. Any thread.
/// `pending` is one more until it is closed.
void close_elsewhere(mempool::shm::UniqueFd fd, std::shared_ptr<std::atomic<int>> pending) noexcept;

}  // namespace mempoold
