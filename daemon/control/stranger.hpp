// A peer's connection as a thing that can hurt the daemon: what it may send along, and what closing
// it or leaving replies unread costs.
//
// Used by Server and Session, on the event loop; blocks nowhere. Linux 6.16 refuses descriptors for
// us (SO_PASSRIGHTS). Before it, a message that carries some is seen and never received, since the
// kernel closes what is received or thrown away, and that close() may sleep.
#pragma once

#include <atomic>
#include <memory>

#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

/// Has the kernel refuse descriptors on what `listener` accepts from now on: the sender gets EPERM.
/// Does nothing before Linux 6.16.
void refuse_descriptors(int listener) noexcept;

/// Whether the next message at `connection` carries descriptors. It must then not be received.
bool carries_descriptors(int connection) noexcept;

/// How many connections of one user helper threads are closing.
using Closings = std::shared_ptr<std::atomic<int>>;

/// Ends a connection at once. What closing it may have to wait for, a helper thread waits for;
/// `closings` counts it until then.
void close_stranger(mempool::shm::UniqueFd connection, Closings closings) noexcept;

/// Whether the peer has not read all that was sent to it. A descriptor in there counts against the
/// daemon's user until it has, or until it closes its end: closing ours changes nothing.
bool has_unread_replies(int connection) noexcept;

}  // namespace mempoold
