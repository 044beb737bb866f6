// A process's attachment to one pool.
//
// Linked by producers and consumers. Attaching talks to mempoold once; getting and returning slots
// never does, but to ask for growth when the pool is empty and to map a segment that was added. So
// slots keep flowing while the daemon is down. The library prints nothing and starts no thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "mempool/error.hpp"
#include "mempool/export.hpp"
#include "mempool/fast_path.hpp"
#include "mempool/handle.hpp"
#include "mempool/slot.hpp"

namespace mempool {

/// How to reach the daemon.
struct MEMPOOL_STRING_ABI AttachOptions {
    /// Path of its control socket; empty: $MEMPOOL_SOCKET, else $XDG_RUNTIME_DIR/mempoold/
    /// mempoold.sock if that exists, else /run/mempoold/mempoold.sock. A relative one is resolved
    /// once, at attach. A program that runs with more rights than its caller (set-uid) ignores the
    /// environment, and is refused (EACCES) a socket in a place that others than root, its own user
    /// and the daemon may change.
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
/// One that was moved from may be assigned to or destroyed, and nothing else.
///
/// Destroying it returns its caches, and the daemon takes back what it still holds. Let its Slots
/// go first, and let its threads end first, or close() it. Where other threads still have lanes
/// with it, it is closed, and they can return what they hold; the attachment ends when the last of
/// them has ended, or has used another client. If the process ends before that, the daemon takes
/// everything back as from a dead one: so a static Client may be destroyed at exit while threads
/// work with it. A call through such a Client afterwards, and a ~Slot that comes too late, find a
/// closed client: they get nothing and return nothing. (For the last 32 clients destroyed; and the
/// object's own memory must still be there, as a static one's is.)
///
/// No call is a cancellation point: a pthread_cancel() takes effect at the thread's next one after
/// the call has returned, that of get_for() too; end waits by close().
///
/// The daemon's connection is the library's own descriptor, above 2. A program that closes it
/// (closefrom) loses nothing but a moment when it is next needed.
class MEMPOOL_EXPORT Client {
public:
    /// Attaches to pool `pool`. Throws Error: no daemon, no such pool, not allowed, too many
    /// clients, a pool this build doesn't understand, out of address space or descriptors (EMFILE:
    /// it works as soon as there is room). If the daemon shuts down before it answers, the request
    /// is sent once more, to its successor.
    [[nodiscard]] static Client attach(std::string_view pool, const AttachOptions& options = {});

    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client();

    /// A free slot, or an empty Slot if there is none (see the overload for why). Does not wait,
    /// but for a new segment that this process may not open by name: then up to a second for the
    /// daemon.
    [[nodiscard, gnu::always_inline]] Slot get() noexcept { return get_with(nullptr); }
    /// As get(); `error` is set to an Errc where the Slot is empty, else cleared.
    [[nodiscard]] Slot get(std::error_code& error) noexcept {
        error.clear();
        return get_with(&error);
    }
    /// As get(), but waits up to `timeout` for a slot to be returned, to be reclaimed, or the pool
    /// to grow. Who sleeps longest is woken first, and one who has waited for a millisecond and
    /// found nothing again has the next slots promised: others, get() too, find none for up to
    /// 10 ms or until nobody waits. Errc::kTimedOut; Errc::kClosed after close(); Errc::kOverQuota
    /// without waiting, since only this client can change that.
    [[nodiscard]] Slot get_for(std::chrono::nanoseconds timeout) noexcept;
    [[nodiscard]] Slot get_for(std::chrono::nanoseconds timeout, std::error_code& error) noexcept;
    /// The same, up to a point in time.
    [[nodiscard]] Slot get_until(std::chrono::steady_clock::time_point deadline) noexcept;
    [[nodiscard]] Slot get_until(std::chrono::steady_clock::time_point deadline,
                                 std::error_code& error) noexcept;
    /// Fills `slots` (each returned first if it holds one) from the front; how many it could fill.
    /// Less than all means that there were no more (see the overload for why); those got stay got.
    /// Takes less time per slot than single calls.
    [[nodiscard]] std::size_t get_bulk(std::span<Slot> slots) noexcept;
    /// As get_bulk(); `error` is set to why there were no more where it did not fill all, else
    /// cleared.
    [[nodiscard]] std::size_t get_bulk(std::span<Slot> slots, std::error_code& error) noexcept;

    // Not static, though any client would do: a Slot knows its own.
    // NOLINTBEGIN(readability-convert-member-functions-to-static)
    /// Returns a slot; as ~Slot, but says what went wrong. The Slot is empty afterwards.
    [[gnu::always_inline]] std::error_code put(Slot&& slot) noexcept {
        const detail::Owner owner = std::exchange(slot.owner_, detail::Owner());
        if (!owner) [[unlikely]] {
            return Errc::kEmptySlot;
        }
        return detail::try_put(owner, slot.name_) ? std::error_code{}
                                                  : detail::put_slowly(owner, slot.name_);
    }
    // NOLINTEND(readability-convert-member-functions-to-static)
    /// Returns the slot that `handle` names, whoever holds it or detached it. The caller answers
    /// for nobody using it any more. Errc::kStale if it was returned already, or its holder never
    /// gave the handle out (Slot::handle()); kNoSuchSlot.
    std::error_code put(Handle handle) noexcept;
    /// Returns all; how many were accepted. Every Slot is empty afterwards.
    std::size_t put_bulk(std::span<Slot> slots) noexcept;
    /// Returns the slots that `handles` name, each as put(Handle) does; how many were accepted. One
    /// that is refused (stale, repeated, empty) leaves the others alone.
    std::size_t put_bulk(std::span<const Handle> handles) noexcept;

    /// Slot::release() of all `slots`, with their handles in `handles`, of which there are as many:
    /// empty where a Slot was empty, or could not be released and stays as it is. How many were
    /// released. Takes less time per slot than single calls.
    std::size_t release_bulk(std::span<Slot> slots, std::span<Handle> handles) noexcept;

    /// Takes over the slot that `handle` names from its holder, or from nobody if it was detached.
    /// Empty, with Errc::kStale, if it was returned, adopted or reclaimed since the handle was
    /// made, or its holder never gave it out. `handle` is stale afterwards, for its sender too: the
    /// Slot has a handle of its own.
    [[nodiscard]] Slot adopt(Handle handle) noexcept;
    [[nodiscard]] Slot adopt(Handle handle, std::error_code& error) noexcept;

    /// Ends every get_for() and get_until() of any thread, now and from now on, with
    /// Errc::kClosed; get(), get_bulk() and adopt() get nothing any more either. What is out can
    /// still be returned. So threads that wait can be told to end before the client is destroyed.
    void close() noexcept;

    /// Name of the pool.
    [[nodiscard]] const std::string& pool() const noexcept;
    /// Bytes usable in each slot.
    [[nodiscard]] std::size_t slot_size() const noexcept;
    /// Start of the pool's range in this process: base() + Slot::offset() == Slot::data().
    [[nodiscard]] std::byte* base() const noexcept;
    /// The number that `mempoolctl clients` shows for this attachment.
    [[nodiscard]] std::uint32_t id() const noexcept;

private:
    explicit Client(detail::ClientCore* core) noexcept : core_(core) {}
    [[nodiscard]] detail::ClientImpl& impl() const noexcept;
    [[nodiscard, gnu::always_inline]] Slot get_with(std::error_code* error) noexcept {
        detail::ClientCore* const core = core_;
        detail::Got got;
        if (core->try_get(got)) [[likely]] {
            return Slot(got);
        }
        return Slot(detail::get_slowly(core, error));
    }

    detail::ClientCore* core_;
};

}  // namespace mempool
