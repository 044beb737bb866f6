// A process's attachment to one pool.
//
// Linked by producers and consumers. Attaching talks to mempoold once; getting and returning slots
// never does, but to ask for growth when the pool is empty and to map a segment that was added. So
// slots keep flowing while the daemon is down. The library prints nothing and starts no thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "mempool/error.hpp"
#include "mempool/export.hpp"
#include "mempool/handle.hpp"
#include "mempool/slot.hpp"

namespace mempool {

/// How to reach the daemon.
struct AttachOptions {
    /// Path of its control socket; empty: $MEMPOOL_SOCKET, else $XDG_RUNTIME_DIR/mempoold/
    /// mempoold.sock if that exists, else /run/mempoold/mempoold.sock.
    std::string socket;
    /// Longest wait for each answer of the daemon.
    std::chrono::milliseconds timeout{5000};
};

/// An attachment: get slots, return them, hand them to other processes.
///
/// Every member may be called by any thread at any time, but for moving and destroying the object.
/// get() and put() of different threads share nothing: each thread has a lane of its own. They are
/// not async-signal-safe. A process that forks keeps its client; in the child every operation is
/// refused with Errc::kForked and the child may attach anew.
///
/// Destroying it returns its caches, and the daemon takes back what it still holds: its Slots must
/// be gone by then.
class MEMPOOL_EXPORT Client {
public:
    /// Attaches to pool `pool`. Throws Error: no daemon, no such pool, not allowed, too many
    /// clients, a pool this build doesn't understand, out of address space or descriptors.
    [[nodiscard]] static Client attach(std::string_view pool, const AttachOptions& options = {});

    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client();

    /// A free slot, or an empty Slot if there is none (see the overload for why). Does not wait,
    /// but for a new segment that this process may not open by name: then up to a second for the
    /// daemon.
    [[nodiscard]] Slot get() noexcept;
    /// As get(); `error` is set to an Errc where the Slot is empty, else cleared.
    [[nodiscard]] Slot get(std::error_code& error) noexcept;
    /// As get(), but waits up to `timeout` for a slot to be returned or the pool to grow.
    [[nodiscard]] Slot get_for(std::chrono::nanoseconds timeout) noexcept;
    [[nodiscard]] Slot get_for(std::chrono::nanoseconds timeout, std::error_code& error) noexcept;
    /// Fills `slots` (each returned first if it holds one) from the front; how many it could fill.
    [[nodiscard]] std::size_t get_bulk(std::span<Slot> slots) noexcept;

    /// Returns a slot; as ~Slot, but says what went wrong. The Slot is empty afterwards.
    std::error_code put(Slot&& slot) noexcept;
    /// Returns the slot that `handle` names, whoever holds it or detached it. The caller answers
    /// for nobody using it any more. Errc::kStale if it was returned already, kNoSuchSlot.
    std::error_code put(Handle handle) noexcept;
    /// Returns all; how many were accepted. Every Slot is empty afterwards.
    std::size_t put_bulk(std::span<Slot> slots) noexcept;

    /// Takes over the slot that `handle` names from its holder, or from nobody if it was detached.
    /// Empty, with Errc::kStale, if it was returned or reclaimed since the handle was made.
    [[nodiscard]] Slot adopt(Handle handle) noexcept;
    [[nodiscard]] Slot adopt(Handle handle, std::error_code& error) noexcept;

    /// Name of the pool.
    [[nodiscard]] const std::string& pool() const noexcept;
    /// Bytes usable in each slot.
    [[nodiscard]] std::size_t slot_size() const noexcept;
    /// Start of the pool's range in this process: base() + Slot::offset() == Slot::data().
    [[nodiscard]] std::byte* base() const noexcept;
    /// The number that `mempoolctl clients` shows for this attachment.
    [[nodiscard]] std::uint32_t id() const noexcept;

private:
    explicit Client(std::unique_ptr<detail::ClientImpl> impl) noexcept;
    std::unique_ptr<detail::ClientImpl> impl_;
};

}  // namespace mempool
