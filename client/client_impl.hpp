// A client at work: what Client and Slot call.
//
// The fast path of get() and put() is in the public fast_path.hpp; what is here goes on where it
// gave up (no lane yet, nothing free, a segment to map, a forked child): operations.cpp, and what
// that needs in client_impl.cpp.
//
// Locks, outer before inner: the registry's > lanes_mutex_; home_mutex_; mapping_mutex_ >
// link_mutex_.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "connection.hpp"
#include "mapping.hpp"
#include "mempool/client.hpp"
#include "mempool/shm/lane.hpp"
#include "mempool/shm/waiting.hpp"
#include "quota.hpp"
#include "thread_lanes.hpp"

namespace mempool::detail {

/// No error, where an Errc tells the outcome.
constexpr Errc kNone{};

class ClientImpl : public ClientCore {
public:
    static std::unique_ptr<ClientImpl> attach(std::string_view pool, const AttachOptions& options);

    ClientImpl(Connection&& link, Mapping&& mapping, shm::ClientId id);
    ClientImpl(const ClientImpl&) = delete;
    ClientImpl& operator=(const ClientImpl&) = delete;
    ~ClientImpl();

    /// Where a function takes `error`, it may be nullptr.
    [[nodiscard]] Got get_slowly(std::error_code* error) noexcept;
    [[nodiscard]] Slot get_until(shm::MonotonicClock::time_point deadline,
                                 std::error_code* error) noexcept;
    [[nodiscard]] std::size_t get_bulk(std::span<Slot> slots, std::error_code* error) noexcept;
    [[nodiscard]] Slot adopt(Handle handle, std::error_code* error) noexcept;
    /// Returns the slot of a Slot with these flags.
    Errc put_slowly(Handle name, std::uint32_t flags) noexcept;
    /// Returns a slot by a handle that others may know too.
    Errc put_shared(Handle handle) noexcept;
    Errc detach(Handle handle) noexcept;
    void set_tag(Handle handle, std::uint32_t tag) noexcept;
    [[nodiscard]] std::size_t put_bulk(std::span<const Handle> handles) noexcept;
    void close() noexcept;

    /// Returns a slot to the client it came from.
    static Errc put(Slot& slot) noexcept;
    static std::size_t put_bulk(std::span<Slot> slots) noexcept;

    [[nodiscard]] std::uint64_t serial() const noexcept {
        return hot.serial.load(std::memory_order_relaxed);
    }
    // The rest stands outside the hot page: it stays true in a forked child.
    [[nodiscard]] const std::string& pool_name() const noexcept { return mapping_.identity().name; }
    [[nodiscard]] std::byte* base() const noexcept { return mapping_.pool().base(); }
    [[nodiscard]] shm::ClientId id() const noexcept { return id_; }

    /// Claims a lane for the calling thread; nullptr if none is to be had.
    ThreadLane* claim_lane() noexcept;
    /// Takes back the lane of a thread that ends.
    void retire(ThreadLane& lane) noexcept;

private:
    friend class Registry;

    [[nodiscard]] bool forked() const noexcept { return serial() == 0; }
    [[nodiscard]] std::uint32_t options() const noexcept {
        return mapping_.pool().live().options.load(std::memory_order_relaxed);
    }
    [[nodiscard]] bool erases() const noexcept { return (options() & shm::kEraseOnPut) != 0; }
    [[nodiscard]] static shm::Taken taken_of(Handle handle) noexcept {
        return {shm::SlotIndex{handle.index()}, shm::Generation{handle.generation()}};
    }
    [[nodiscard]] Got got_of(shm::Taken t) noexcept {
        return {Owner(this, options()), Handle(raw(t.index), raw(t.generation))};
    }
    [[nodiscard]] Slot slot_of(const Got& got) const noexcept { return {got, data_of(got.name)}; }

    // operations.cpp
    [[nodiscard]] Errc put_shared_slowly(Handle handle) noexcept;
    /// Gets a slot by whatever it takes but waiting; `counted`: a failure was counted already.
    /// kNone with kExhausted or kBusy in `result`: there is none.
    [[nodiscard]] Errc take(shm::Taken& taken, bool counted, shm::Turn turn,
                            shm::GetResult& result) noexcept;
    [[nodiscard]] Errc take_until(shm::MonotonicClock::time_point deadline,
                                  shm::Taken& taken) noexcept;
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
    /// Returns a slot that has a tag or is to be erased.
    [[nodiscard]] Errc put_clean(shm::Taken t, std::uint32_t limit, bool erase,
                                 shm::PutResult& result) noexcept;
    [[nodiscard]] Errc error_of(shm::PutResult result, Handle handle) const noexcept;

    [[nodiscard]] ThreadLane* equip(shm::LaneId id) noexcept;
    [[nodiscard]] ThreadLane* keep(const shm::Lane& lane) noexcept;
    void close(ThreadLane& lane) noexcept;
    [[nodiscard]] bool open_home() noexcept;

    /// Maps what was announced; whether an index of `seen` or more is mapped now.
    [[nodiscard]] bool map_beyond(std::uint32_t seen) noexcept;
    [[nodiscard]] shm::UniqueFd fetch_segment(std::uint32_t number) noexcept;
    [[nodiscard]] bool at_full_size() const noexcept;
    void ask_for_growth() noexcept;
    void begin();
    void leave() noexcept;

    const shm::ClientId id_;
    Mapping mapping_;
    Connection link_;
    Quota quota_;
    ClientImpl* next_client_ = nullptr;  // the registry's

    std::mutex home_mutex_;
    std::unique_ptr<ThreadLane> home_;

    std::mutex lanes_mutex_;
    std::atomic<ThreadLane*> lanes_{nullptr};  // only ever pushed to: whole at any fork

    std::mutex mapping_mutex_;
    std::atomic<bool> closed_{false};  // set under mapping_mutex_, with hot.limit then 0
    Connection::Clock::time_point next_fetch_{};
    std::mutex link_mutex_;
};

inline Errc ClientImpl::put(Slot& slot) noexcept {
    if (!slot) [[unlikely]] {
        return Errc::kEmptySlot;
    }
    slot.data_ = nullptr;
    return detail::try_put(slot.owner_, slot.name_)
               ? kNone
               : static_cast<ClientImpl*>(slot.owner_.core())
                     ->put_slowly(slot.name_, slot.owner_.flags());
}

}  // namespace mempool::detail
