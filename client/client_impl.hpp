// A client at work: what Client and Slot call.
//
// The fast path of get() and put() stands in this header: the serial in the hot page, the thread's
// lane from its cache, one operation on the lane. It takes no lock and makes no system call. All
// else (no lane yet, nothing free, a segment to map, a forked child) is in operations.cpp, and what
// that needs in client_impl.cpp.
//
// Fork: the hot page is wiped in a forked child (MADV_WIPEONFORK), so the serial reads 0 there, no
// lane matches it, and every operation ends in the slow path's check. Costs the parent nothing.
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
#include "thread_lanes.hpp"

namespace mempool::detail {

/// No error, where an Errc tells the outcome.
constexpr Errc kNone{};

/// What every get and put reads, in one page so that the kernel can wipe it at fork.
struct alignas(shm::kPage) HotPage {
    /// Throws Error if the kernel can't do that.
    HotPage();
    HotPage(const HotPage&) = delete;
    HotPage& operator=(const HotPage&) = delete;
    ~HotPage();

    std::atomic<std::uint64_t> serial{0};  ///< this client's; 0 before it is ready and in a child
    std::atomic<std::uint32_t> limit{0};   ///< one past the last index mapped
    std::byte* slots = nullptr;            ///< slot 0
    std::uint64_t stride = 0;              ///< bytes from slot to slot
    std::size_t slot_size = 0;
};

class ClientImpl {
public:
    static std::unique_ptr<ClientImpl> attach(std::string_view pool, const AttachOptions& options);

    ClientImpl(Connection&& link, Mapping&& mapping, shm::ClientId id);
    ClientImpl(const ClientImpl&) = delete;
    ClientImpl& operator=(const ClientImpl&) = delete;
    ~ClientImpl();

    /// Where a function takes `error`, it may be nullptr.
    [[nodiscard]] Slot get(std::error_code* error) noexcept;
    [[nodiscard]] Slot get_for(std::chrono::nanoseconds timeout, std::error_code* error) noexcept;
    [[nodiscard]] std::size_t get_bulk(std::span<Slot> slots) noexcept;
    [[nodiscard]] Slot adopt(Handle handle, std::error_code* error) noexcept;
    /// Returns the slot of a Slot with these flags.
    Errc put(shm::Held held, std::uint32_t flags) noexcept;
    /// Returns a slot by a handle that others may know too.
    Errc put_shared(Handle handle) noexcept;
    Errc detach(Handle handle) noexcept;
    void set_tag(Handle handle, std::uint32_t tag) noexcept;

    /// Returns a slot to the client it came from.
    static Errc put(Slot& slot) noexcept;
    static std::size_t put_bulk(std::span<Slot> slots) noexcept;

    [[nodiscard]] std::uint64_t serial() const noexcept {
        return hot_.serial.load(std::memory_order_relaxed);
    }
    // The rest stands outside the hot page: it stays true in a forked child.
    [[nodiscard]] const std::string& pool_name() const noexcept { return mapping_.identity().name; }
    [[nodiscard]] std::size_t slot_size() const noexcept {
        return mapping_.identity().geometry.shape.slot_size;
    }
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
    [[nodiscard]] static Handle handle_of(shm::Held held) noexcept {
        return {raw(held.index), raw(held.word.generation())};
    }
    [[nodiscard]] Slot slot_of(shm::Held held, std::uint32_t flags) noexcept {
        return {this,
                hot_.slots + std::uint64_t{raw(held.index)} * hot_.stride,
                hot_.slot_size,
                held.word.bits,
                raw(held.index),
                flags};
    }
    [[nodiscard]] Slot slot_of(shm::Taken t, std::uint32_t flags) noexcept {
        return slot_of({t.index, shm::SlotWord::held(t.generation, id_)}, flags);
    }

    // operations.cpp
    [[nodiscard]] Slot get_slowly(std::error_code* error) noexcept;
    [[nodiscard]] Errc put_again(shm::Held held, std::uint32_t flags) noexcept;
    [[nodiscard]] Errc put_slowly(Handle handle) noexcept;
    /// Gets a slot by whatever it takes but waiting; `counted`: a failure was counted already.
    [[nodiscard]] Errc take(shm::Taken& taken, bool counted) noexcept;
    [[nodiscard]] Errc take_by(Connection::Clock::time_point deadline, shm::Taken& taken) noexcept;
    /// Calls `use(lane)` with this thread's lane, or the home lane under its lock; kNone, else why
    /// there is no lane.
    template <typename Use>
    Errc with_lane(Use use) noexcept;
    [[nodiscard]] bool still_out(shm::Taken t) const noexcept;
    void clean(shm::Taken t) noexcept;
    /// Fetches the slot word that a put will change.
    void prefetch(shm::SlotIndex i) const noexcept {
        if (raw(i) < mapping_.limit()) {
            __builtin_prefetch(&mapping_.pool().word(i), 1);
        }
    }
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
    void leave() noexcept;

    HotPage hot_;

    const shm::ClientId id_;
    Mapping mapping_;
    Connection link_;
    ClientImpl* next_client_ = nullptr;  // the registry's

    std::mutex home_mutex_;
    std::unique_ptr<ThreadLane> home_;
    std::atomic<bool> home_open_{false};  // home_ is set, and stays so

    std::mutex lanes_mutex_;
    std::atomic<ThreadLane*> lanes_{nullptr};  // only ever pushed to: whole at any fork

    std::mutex mapping_mutex_;
    Connection::Clock::time_point next_fetch_{};
    std::mutex link_mutex_;
};

static_assert(kErase == shm::kEraseOnPut, "a Slot takes over the pool's options as its flags");

inline Slot ClientImpl::get(std::error_code* error) noexcept {
    ThreadLane* mine = cached_lane(serial());
    shm::Held held;
    if (mine != nullptr && mine->lane.try_get(hot_.limit.load(std::memory_order_acquire), held))
        [[likely]] {
        return slot_of(held, mine->lane.options());
    }
    return get_slowly(error);
}

inline Errc ClientImpl::put(shm::Held held, std::uint32_t flags) noexcept {
    if (flags == 0) [[likely]] {
        ThreadLane* mine = cached_lane(serial());
        if (mine != nullptr && mine->lane.try_put_private(held)) [[likely]] {
            return kNone;
        }
    }
    return put_again(held, flags);
}

inline Errc ClientImpl::put(Slot& slot) noexcept {
    if (!slot) [[unlikely]] {
        return Errc::kEmptySlot;
    }
    slot.data_ = nullptr;
    return slot.client_->put({shm::SlotIndex{slot.index_}, shm::SlotWord{slot.word_}}, slot.flags_);
}

}  // namespace mempool::detail
