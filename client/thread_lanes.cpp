#include "thread_lanes.hpp"

#include <algorithm>
#include <new>
#include <vector>

#include "client_impl.hpp"
#include "registry.hpp"

namespace mempool::detail {

constinit thread_local CachedLane last_lane{kNoSerial, nullptr};

namespace {

// True once this thread's list is destroyed: its later gets and puts use the home lane.
constinit thread_local bool thread_ended = false;

/// All lanes of one thread, each with its client's serial; nullptr for a client whose home lane it
/// uses.
class LaneList {
public:
    LaneList() = default;
    LaneList(const LaneList&) = delete;
    LaneList& operator=(const LaneList&) = delete;

    ~LaneList() {
        thread_ended = true;
        last_lane = {kNoSerial, nullptr};
        for (const CachedLane& entry : entries_) {
            give_back(entry);
        }
    }

    [[nodiscard]] ThreadLane* find_or_claim(ClientImpl& client) {
        const std::uint64_t serial = client.serial();
        const auto known = std::find_if(entries_.begin(), entries_.end(),
                                        [&](const CachedLane& e) { return e.serial == serial; });
        if (known != entries_.end()) {
            return known->lane;
        }
        drop_if([](const CachedLane& e) { return !Registry::instance().is_in_use(e.serial); });
        entries_.reserve(entries_.size() + 1);  // may throw, so before the claim
        ThreadLane* lane = client.claim_lane();
        entries_.push_back({serial, lane});
        return lane;
    }

    /// Gives back the lanes of the entries for which `is_done` says so, and forgets the entries.
    template <typename IsDone>
    void drop_if(IsDone is_done) noexcept {
        for (std::size_t k = entries_.size(); k-- > 0;) {
            if (const CachedLane entry = entries_[k]; is_done(entry)) {
                entries_[k] = entries_.back();
                entries_.pop_back();
                if (last_lane.serial == entry.serial) {
                    last_lane = {kNoSerial, nullptr};
                }
                give_back(entry);
            }
        }
    }

private:
    static void give_back(const CachedLane& entry) noexcept {
        if (entry.lane != nullptr) {
            Registry::instance().retire(entry.serial, *entry.lane);
        }
    }

    std::vector<CachedLane> entries_;
};

thread_local LaneList lane_list;

}  // namespace

ThreadLane* own_lane(ClientImpl& client) noexcept {
    const std::uint64_t serial = client.serial();
    if (ThreadLane* lane = cached_lane(serial); lane != nullptr) {
        return lane;
    }
    if (thread_ended) {
        return nullptr;
    }
    try {
        ThreadLane* lane = lane_list.find_or_claim(client);
        if (lane != nullptr) {
            last_lane = {serial, lane};
        }
        return lane;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void give_back_lane(std::uint64_t serial) noexcept {
    if (!thread_ended) {
        lane_list.drop_if([serial](const CachedLane& e) { return e.serial == serial; });
    }
}

}  // namespace mempool::detail
