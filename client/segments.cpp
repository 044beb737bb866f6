// Segments and growth: the two things a running client needs the daemon for.
#include <chrono>
#include <exception>
#include <mutex>

#include "client_impl.hpp"
#include "mempool/error.hpp"
#include "no_cancellation.hpp"

namespace mempool::detail {
namespace {

/// The pause after a segment could not be had from the daemon.
constexpr std::chrono::milliseconds kFetchPause{100};

}  // namespace

bool ClientImpl::map_beyond(std::uint32_t seen) noexcept {
    const NoCancellation no_cancellation;
    const std::lock_guard guard(mapping_mutex_);
    if (mapping_->limit() <= seen && !ended()) {
        mapping_->extend([this](std::uint32_t number) { return fetch_segment(number); });
        if (!closed_.load(std::memory_order_relaxed)) {
            hot.limit.store(mapping_->limit(), std::memory_order_release);
        }
    }
    return mapping_->limit() > seen;
}

void ClientImpl::note_refusal(const Error& why) noexcept {
    if (why.code() == std::error_code(ESTALE, std::generic_category())) {
        disowned_.store(true, std::memory_order_release);
    }
}

shm::UniqueFd ClientImpl::fetch_segment(std::uint32_t number) noexcept {
    if (ended() || Connection::Clock::now() < next_fetch_) {
        return {};
    }
    shm::UniqueFd fd;
    const std::lock_guard guard(link_mutex_);
    try {
        link_.call(make_request(shm::RequestKind::kSegment, pool_name(),
                                shm::payload::Segment{.number = number}),
                   &fd);
    } catch (const Error& e) {
        note_refusal(e);
        next_fetch_ = Connection::Clock::now() + kFetchPause;
    } catch (const std::exception&) {
        next_fetch_ = Connection::Clock::now() + kFetchPause;
    }
    return fd;
}

bool ClientImpl::at_full_size() const noexcept {
    const std::uint32_t count = pool_.segment_count();
    std::uint64_t slots = 0;
    for (std::uint32_t k = 0; k < count; ++k) {
        slots += pool_.read_segment(k).slot_count;
    }
    return count == shm::kMaxSegments || slots >= pool_.geometry().shape.max_slots;
}

void ClientImpl::ask_for_growth() noexcept {
    std::atomic<std::uint32_t>& wanted = pool_.live().grow_wanted;
    if (ended() || at_full_size() || wanted.load(std::memory_order_relaxed) != 0 ||
        wanted.exchange(1, std::memory_order_relaxed) != 0) {
        return;
    }
    // Another thread may be waiting for the daemon with the lock: then the daemon's next tick sees
    // the wish.
    const std::unique_lock guard(link_mutex_, std::try_to_lock);
    if (guard) {
        link_.notify(make_request(shm::RequestKind::kWantMore, pool_name()));
        if (link_.is_resume_refused()) {
            disowned_.store(true, std::memory_order_release);
        }
    }
}

}  // namespace mempool::detail
