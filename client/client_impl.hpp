// A client at work: what Client and Slot call.
//
// The fast path of get() and put() is in the public fast_path.hpp; what is here goes on where it
// gave up (no lane yet, nothing free, a segment to map, a forked child): operations.cpp, and what
// that needs in client_impl.cpp.
//
// Locks, outer before inner: home_mutex_; lanes_mutex_; mapping_mutex_ > link_mutex_. The
// registry's is held over no other.
//
// A client's end. The pool stays mapped as long as somebody may look into it: the Client object, a
// thread that has a lane, or one without that is inside a slow operation. Each is a stay; stays_
// counts them. ~Client closes the client, takes back its own thread's lane and the home lane, and
// ends its stay; whoever ends the last one says goodbye. The object itself is kept for a while
// longer, without memory of the pool, so that a late call finds a client that refuses (bury()).
//
//   open ──close()──► closed ──~Client──► left ──the last stay ends──► gone ──bury()──► deleted
//     └────────────────~Client────────────►┘      (goodbye said)
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "connection.hpp"
#include "mapping.hpp"
#include "mempool/client.hpp"
#include "mempool/shm/lane/lane.hpp"
#include "mempool/shm/lane/waiting.hpp"
#include "quota.hpp"
#include "thread_lanes.hpp"

namespace mempool::detail {

/// No error, where an Errc tells the outcome.
constexpr Errc kNone{};

class ClientImpl : public ClientCore {
public:
    static std::unique_ptr<ClientImpl> attach(std::string_view pool, const AttachOptions& options);

    ClientImpl(Connection&& link, Mapping&& mapping, const shm::payload::Attachment& attachment);
    ClientImpl(const ClientImpl&) = delete;
    ClientImpl& operator=(const ClientImpl&) = delete;
    ~ClientImpl();

    /// What ~Client does: the program is done with this client. It may be deleted at once, or when
    /// the last thread has given its lane back.
    void leave() noexcept;

    /// Where a function takes `error`, it may be nullptr.
    [[nodiscard]] Got get_slowly(std::error_code* error) noexcept;
    [[nodiscard]] Slot get_until(shm::MonotonicClock::time_point deadline,
                                 std::error_code* error) noexcept;
    [[nodiscard]] std::size_t get_bulk(std::span<Slot> slots, std::error_code* error) noexcept;
    [[nodiscard]] Slot adopt(Handle handle, std::error_code* error) noexcept;
    /// Returns the slot of a Slot with these flags.
    Errc put_slowly(Handle name, std::uint32_t flags) noexcept;
    /// Returns a slot by a handle that was given out.
    Errc put_shared(Handle handle) noexcept;
    /// Gives out the handle of a slot that this client holds; false if it doesn't any more, or may
    /// not.
    [[nodiscard]] bool show(Handle name) noexcept;
    Errc detach(Handle handle) noexcept;
    void set_tag(Handle handle, std::uint32_t tag) noexcept;
    [[nodiscard]] std::size_t put_bulk(std::span<const Handle> handles) noexcept;
    [[nodiscard]] std::size_t release_bulk(std::span<Slot> slots,
                                           std::span<Handle> handles) noexcept;
    void close() noexcept;

    /// Returns each slot to the client it came from.
    static std::size_t put_bulk(std::span<Slot> slots) noexcept;

    [[nodiscard]] std::uint64_t serial() const noexcept {
        return hot.serial.load(std::memory_order_relaxed);
    }
    // The rest stands outside the hot page: it stays true in a forked child.
    [[nodiscard]] const std::string& pool_name() const noexcept { return pool_name_; }
    [[nodiscard]] std::byte* base() const noexcept { return pool_.base(); }
    [[nodiscard]] shm::ClientId id() const noexcept { return id_; }

    /// Claims a lane for the calling thread; nullptr if none can be had.
    ThreadLane* claim_lane() noexcept;
    /// Takes back the lane of the calling thread. `this` may be gone afterwards.
    void retire(ThreadLane& lane) noexcept;
    /// Whether the Client object still exists.
    [[nodiscard]] bool has_left() const noexcept {
        return (stays_.load(std::memory_order_acquire) & kLeft) != 0;
    }

private:
    friend class Registry;
    class Stay;

    [[nodiscard]] bool forked() const noexcept { return serial() == 0; }
    /// Whether the daemon ended this attachment: then nothing in the pool is this client's any
    /// more.
    /// Of this attachment; see ClientRecord::epoch.
    [[nodiscard]] std::uint32_t epoch() const noexcept {
        return static_cast<std::uint32_t>(attachment_.epoch);
    }
    [[nodiscard]] bool ended() const noexcept {
        return disowned_.load(std::memory_order_acquire) ||
               pool_.client(id_).epoch.load(std::memory_order_acquire) != attachment_.epoch;
    }
    [[nodiscard]] std::uint32_t options() const noexcept {
        return pool_.live().options.load(std::memory_order_relaxed);
    }
    [[nodiscard]] bool erases() const noexcept { return (options() & shm::kEraseOnPut) != 0; }
    [[nodiscard]] static shm::Taken taken_of(Handle handle) noexcept {
        return {shm::SlotIndex{handle.index()}, shm::Generation{handle.generation()}};
    }
    [[nodiscard]] Got got_of(shm::Taken t) noexcept {
        return {Owner(this, options()), Handle(raw(t.index), raw(t.generation))};
    }

    // operations.cpp
    /// Returns the slot that `slot` holds, in no run with others.
    static Errc put_by_itself(Slot& slot) noexcept;
    [[nodiscard]] Errc put_shared_slowly(Handle handle) noexcept;
    /// Gets a slot by whatever it takes but waiting; `counted`: a failure was counted already.
    /// kNone with kExhausted or kBusy in `result`: there is none.
    [[nodiscard]] Errc take(shm::Taken& taken, bool counted, shm::Turn turn,
                            shm::GetResult& result) noexcept;
    [[nodiscard]] Errc take_until(shm::MonotonicClock::time_point deadline,
                                  shm::Taken& taken) noexcept;
    /// Fills `slots` from `filled` on, each by whatever it takes but waiting; how many are filled.
    [[nodiscard]] std::size_t get_one_by_one(std::span<Slot> slots, std::size_t filled,
                                             std::error_code* error) noexcept;
    /// Leaves what the lane has cached to those who wait, if there are any.
    void share_if_waited_for() noexcept;
    /// Returns what it can of `slots`, or `handles`, from `next` on in one go, and moves `next` on.
    [[nodiscard]] std::size_t put_run(std::span<Slot> slots, std::size_t& next) noexcept;
    [[nodiscard]] std::size_t put_run(std::span<const Handle> handles, std::size_t& next) noexcept;
    /// Calls `use(lane)` with this thread's lane, or the home lane under its lock; kNone, else why
    /// there is no lane.
    template <typename Use>
    Errc with_lane(Use use) noexcept;
    [[nodiscard]] bool still_out(shm::Taken t) const noexcept;
    [[nodiscard]] bool is_tagged(shm::Taken t) const noexcept;
    /// Returns a slot that has a tag or is to be erased; `take(Lane&, Taken&)` makes it this
    /// client's.
    template <typename Take>
    [[nodiscard]] Errc put_clean(shm::Taken t, bool erase, Take take,
                                 shm::PutResult& result) noexcept;
    [[nodiscard]] Errc error_of(shm::PutResult result, Handle handle) const noexcept;

    [[nodiscard]] ThreadLane* equip(shm::LaneId id) noexcept;
    [[nodiscard]] ThreadLane* keep(const shm::Lane& lane) noexcept;
    void close(ThreadLane& lane) noexcept;
    /// kNone, else why there is no home lane.
    [[nodiscard]] Errc open_home() noexcept;

    /// Maps what was announced; whether an index of `seen` or more is mapped now.
    [[nodiscard]] bool map_beyond(std::uint32_t seen) noexcept;
    [[nodiscard]] shm::UniqueFd fetch_segment(std::uint32_t number) noexcept;
    [[nodiscard]] bool at_full_size() const noexcept;
    void ask_for_growth() noexcept;
    void confirm_attached();
    /// Takes note of a refusal that says that the attachment was ended.
    void note_refusal(const Error& why) noexcept;

    /// Begins a stay of the calling thread; false if the client has left.
    [[nodiscard]] bool begin_stay() noexcept;
    /// Ends one; the last one of a client that has left ends the attachment.
    void end_stay() noexcept;
    /// Unmaps the pool and says goodbye. Nobody has a lane, or is inside, any more.
    void end_attachment() noexcept;
    static void bury(ClientImpl* client) noexcept;

    static constexpr std::uint32_t kLeft = 1U << 31U;  // of stays_: the Client object is gone

    const shm::payload::Attachment attachment_;
    const shm::ClientId id_;
    std::optional<Mapping> mapping_;  // empty once the attachment has ended
    const std::string pool_name_;
    const shm::Pool pool_;
    Connection link_;
    Quota quota_;
    std::atomic<std::uint32_t> stays_{1};  // the Client object's
    std::atomic<bool> disowned_{false};    // the daemon said that the attachment was ended
    ClientImpl* next_client_ = nullptr;    // the registry's

    std::mutex home_mutex_;
    std::unique_ptr<ThreadLane> home_;

    std::mutex lanes_mutex_;
    std::atomic<ThreadLane*> lanes_{nullptr};  // only ever pushed to: whole at any fork

    std::mutex mapping_mutex_;
    std::atomic<bool> closed_{false};  // set under mapping_mutex_, with hot.limit then 0
    Connection::Clock::time_point next_fetch_{};
    std::mutex link_mutex_;
};

/// A stay for one slow operation: counted where the thread has no lane of its own, which is a stay
/// already. Whatever touches the pool's memory, and is not known to have a lane, begins with one.
class ClientImpl::Stay {
public:
    explicit Stay(ClientImpl& client) noexcept : client_(client) {
        if (client.forked()) {
            refusal_ = Errc::kForked;
        } else if (own_lane(client) == nullptr) {
            counted_ = client.begin_stay();
            refusal_ = counted_ ? kNone : Errc::kClosed;
        }
    }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;
    ~Stay() {
        if (counted_) {
            client_.end_stay();
        }
    }

    /// kNone, else why the operation must be refused, and the pool left alone.
    [[nodiscard]] Errc refusal() const noexcept { return refusal_; }

private:
    ClientImpl& client_;
    bool counted_ = false;
    Errc refusal_ = kNone;
};

}  // namespace mempool::detail
