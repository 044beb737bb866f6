// Comparing all words with all magazines and rings, while clients work.
//
// Called by the daemon and, over a read-only mapping, by libmempool's inspector. Writes nothing.
// What is being changed can look wrong: it is looked at again, and counts only if it stays as it
// was. A client stopped in the middle of an operation is no fault: the states it can be stopped in
// are accepted (a slot beyond its magazine's count, an item of a slot already got), except one: a
// magazine that was given back, whose hint is not pushed yet.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "mempool/shm/depot/hints.hpp"
#include "mempool/shm/depot/ring.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempool::shm {

enum class Fault : std::uint8_t {
    kSlotState,      ///< a slot's word makes no sense
    kSlotUnlisted,   ///< a slot says FREE(m) and magazine m doesn't have it: it is lost
    kSlotHolder,     ///< a slot's holder is no attached client
    kMagazineState,  ///< a magazine's word is in no known state
    kMagazineOwner,  ///< a magazine's lane belongs to no attached client
    kMagazineItem,   ///< a magazine in the depot lists a slot that is not in it
    kMagazineHint,   ///< a magazine in the depot stands in no ring cell; the daemon mends this
    kRing,           ///< a ring's positions and cells contradict each other; the daemon mends this
    kLaneState,      ///< a lane's word makes no sense
    kLaneOwner,      ///< a lane belongs to no attached client
    kClientRecord,   ///< a client's record is in no known state, or not as the daemon wrote it
    // Only the daemon, with its own copies, can tell that these are wrong: repairs name them.
    kHeader,        ///< the header's page
    kSegmentTable,  ///< the segment table, or the number of segments
    kLaneMap,       ///< a lane in use is missing in the map of lanes
    kWaiters,       ///< the sum of those who wait
};
constexpr std::size_t kFaultCount = static_cast<std::size_t>(Fault::kWaiters) + 1;

struct Finding {
    Fault fault{};
    std::uint32_t where = 0;  ///< the slot's index; the id of magazine, lane, client or ring
    std::uint64_t word = 0;   ///< as it stands there; 0 for a ring

    friend bool operator==(const Finding&, const Finding&) = default;
    friend bool operator<(const Finding& a, const Finding& b) noexcept {
        return std::tie(a.fault, a.where, a.word) < std::tie(b.fault, b.where, b.word);
    }
};

struct AuditResult {
    std::uint64_t slots = 0;      ///< compared
    std::uint64_t magazines = 0;  ///< compared
    std::vector<Finding> findings;
};

namespace detail {

/// Whether a ring's positions and cells fit together, so that every hint in it is found. Positions
/// and cell are judged as they stood at one moment; what moves all the time counts as fitting.
///
/// At any moment, with head h and tail t: t is at most one step behind h (a push whose hint was
/// popped before its tail moved) or one more than the capacity ahead (a removal whose head did not
/// move). The cell of position p in [h, h + capacity) is of p's lap, with a hint only up to t; or
/// of the next lap, and then empty, or filled again where the head lags.
inline bool ring_fits(const Pool& pool, RingId ring) noexcept {
    constexpr int kLooks = 8;
    const Geometry& g = pool.geometry();
    const RingState& state = pool.ring_state(ring);
    const std::atomic<std::uint64_t>* cells = pool.ring_cells(ring);
    const std::uint64_t capacity = g.ring_capacity;
    const int shift = std::countr_zero(capacity);
    std::uint64_t head = 0;
    std::uint64_t tail = 0;
    const auto read = [&] {
        for (int look = 0; look < kLooks; ++look) {
            head = state.head.load(std::memory_order_acquire);
            tail = state.tail.load(std::memory_order_acquire);
            if (state.head.load(std::memory_order_acquire) == head) {
                return true;
            }
        }
        return false;
    };
    const auto fits = [&](std::uint64_t k) {
        const std::uint64_t cell = cells[k].load(std::memory_order_acquire);
        const std::uint64_t p = head + ((k - head) & (capacity - 1));
        const auto magazine = static_cast<std::uint32_t>(cell);
        const std::uint32_t ahead =
            static_cast<std::uint32_t>(cell >> 32U) - static_cast<std::uint32_t>(p >> shift);
        const bool passed = static_cast<std::int64_t>(tail - p) >= 0;
        const bool refilled = p == head && static_cast<std::int64_t>(tail - head - capacity) >= 0;
        return magazine < g.magazine_count &&
               ((ahead == 0 && (magazine == 0 || passed)) ||
                (ahead == 1 && ((magazine == 0 && passed) || refilled)));
    };
    if (!read()) {
        return true;
    }
    if (tail - head + 1 > capacity + 2) {
        return false;
    }
    for (std::uint64_t k = 0; k < capacity; ++k) {
        for (int look = 0; !fits(k) && look < kLooks; ++look) {
            const std::uint64_t old_head = head;
            const std::uint64_t old_tail = tail;
            if (!read()) {
                return true;
            }
            if (old_head == head && old_tail == tail && !fits(k)) {
                return false;
            }
        }
    }
    return true;
}

class Auditor {
public:
    explicit Auditor(const Pool& pool) : pool_(pool) {}

    std::vector<Finding> pass() {
        findings_.clear();
        slots_ = 0;
        listed_.assign(pool_.geometry().index_capacity, false);
        check_rings();
        check_magazines();
        check_slots();
        check_lanes();
        check_clients();
        std::sort(findings_.begin(), findings_.end());
        return findings_;
    }
    [[nodiscard]] std::uint64_t slots() const { return slots_; }

    [[nodiscard]] bool still(const Finding& f) const {
        const auto is = [&f](const auto& word) {
            return static_cast<std::uint64_t>(word.load(std::memory_order_acquire)) == f.word;
        };
        switch (f.fault) {
            case Fault::kSlotState:
            case Fault::kSlotUnlisted:
            case Fault::kSlotHolder:
                return is(pool_.word(SlotIndex{f.where}));
            case Fault::kLaneState:
            case Fault::kLaneOwner:
                return is(pool_.lane(LaneId{f.where}).word);
            case Fault::kClientRecord:
                return is(pool_.client(ClientId{f.where}).state);
            case Fault::kRing:
                return true;
            default:
                return is(pool_.magazine(MagazineId{f.where}).word);
        }
    }

private:
    void check_rings() {
        for_each_ring(pool_, [this](RingId r) {
            if (!ring_fits(pool_, r)) {
                findings_.push_back({Fault::kRing, raw(r), 0});
            }
        });
    }

    [[nodiscard]] bool possible(ClientId c) const {
        return raw(c) < pool_.geometry().shape.client_count;
    }
    [[nodiscard]] bool attached(ClientId c) const {
        return possible(c) &&
               (c == kDaemonClient ||
                pool_.client(c).state.load(std::memory_order_acquire) != ClientState::kFree);
    }

    void check_magazines() {
        const Hints hints = find_hints(pool_);
        for (std::uint32_t m = 1; m < pool_.magazine_limit(); ++m) {
            const MagazineId id{m};
            MagazineHead& magazine = pool_.magazine(id);
            const MagazineWord word{magazine.word.load(std::memory_order_acquire)};
            const bool depot =
                word.state() == MagazineState::kFull || word.state() == MagazineState::kEmpty;
            if (!depot && word.state() != MagazineState::kOwned) {
                findings_.push_back({Fault::kMagazineState, m, word.bits});
                continue;
            }
            if (!depot && !lane_attached(word.lane())) {
                findings_.push_back({Fault::kMagazineOwner, m, word.bits});
            }
            if (hints.lack(id, word)) {
                findings_.push_back({Fault::kMagazineHint, m, word.bits});
            }
            if (!list_items(id, magazine, word.state()) && depot) {
                findings_.push_back({Fault::kMagazineItem, m, word.bits});
            }
        }
    }

    [[nodiscard]] bool lane_attached(LaneId l) const {
        if (raw(l) >= pool_.geometry().lane_count) {
            return false;
        }
        const LaneWord word{pool_.lane(l).word.load(std::memory_order_acquire)};
        return l == kDaemonLane || (word.state() == LaneState::kOwned && attached(word.client()));
    }

    // Marks the slots that lie in `m`. Returns whether its count and items are those of a magazine
    // in which no operation is under way, as all in the depot are: each item below the count lies
    // in it, and what lies in it stands below the count.
    bool list_items(MagazineId m, MagazineHead& magazine, MagazineState state) {
        const std::uint32_t stored = magazine.count.load(std::memory_order_acquire);
        const std::uint32_t count = std::min(stored, pool_.magazine_capacity());
        const std::uint32_t limit = pool_.index_limit();
        bool sound = stored == count && (state == MagazineState::kFull) == (count != 0);
        const std::atomic<std::uint32_t>* items = Pool::items(magazine);
        const auto stands_below = [&](std::uint32_t i) {
            return std::any_of(items, items + count, [i](const auto& item) {
                return item.load(std::memory_order_acquire) == i;
            });
        };
        for (std::uint32_t k = 0; k < pool_.magazine_capacity(); ++k) {
            const std::uint32_t i = items[k].load(std::memory_order_acquire);
            const bool here =
                i < limit &&
                SlotWord{pool_.word(SlotIndex{i}).load(std::memory_order_acquire)}.is_free_in(m);
            if (here) {
                listed_[i] = true;
            }
            sound = sound && (k < count ? here : !here || stands_below(i));
        }
        return sound;
    }

    void check_slots() {
        for_each_slot(pool_, [&](SlotIndex index) {
            const std::uint32_t i = raw(index);
            const SlotWord word{pool_.word(index).load(std::memory_order_acquire)};
            ++slots_;
            switch (word.state()) {
                case SlotState::kFree:
                    if (!listed_[i] && !lists(word.magazine(), i)) {
                        findings_.push_back({Fault::kSlotUnlisted, i, word.bits});
                    }
                    break;
                case SlotState::kHeld:
                case SlotState::kShown:
                    if (!possible(word.client())) {
                        findings_.push_back({Fault::kSlotState, i, word.bits});
                    } else if (!attached(word.client())) {
                        findings_.push_back({Fault::kSlotHolder, i, word.bits});
                    }
                    break;
                case SlotState::kDetached:  // whoever detached it may be gone
                    if (!possible(word.client())) {
                        findings_.push_back({Fault::kSlotState, i, word.bits});
                    }
                    break;
                default:
                    findings_.push_back({Fault::kSlotState, i, word.bits});
            }
        });
    }

    void check_lanes() {
        for (std::uint32_t l = raw(kDaemonLane) + 1; l < pool_.geometry().lane_count; ++l) {
            const LaneWord word{pool_.lane(LaneId{l}).word.load(std::memory_order_acquire)};
            const bool owned = word.state() == LaneState::kOwned;
            if (owned ? !possible(word.client()) : word.state() != LaneState::kFree) {
                findings_.push_back({Fault::kLaneState, l, word.bits});
            } else if (owned && !attached(word.client())) {
                findings_.push_back({Fault::kLaneOwner, l, word.bits});
            }
        }
    }

    void check_clients() {
        for (std::uint32_t c = raw(kDaemonClient) + 1; c < pool_.geometry().shape.client_count;
             ++c) {
            const ClientState state =
                pool_.client(ClientId{c}).state.load(std::memory_order_acquire);
            if (state > ClientState::kUnseen) {
                findings_.push_back({Fault::kClientRecord, c, static_cast<std::uint64_t>(state)});
            }
        }
    }

    [[nodiscard]] bool lists(MagazineId m, std::uint32_t index) const {
        if (!pool_.has_magazine(m)) {
            return false;
        }
        const std::atomic<std::uint32_t>* items = Pool::items(pool_.magazine(m));
        for (std::uint32_t k = 0; k < pool_.magazine_capacity(); ++k) {
            if (items[k].load(std::memory_order_acquire) == index) {
                return true;
            }
        }
        return false;
    }

    const Pool& pool_;
    std::vector<bool> listed_;
    std::vector<Finding> findings_;
    std::uint64_t slots_ = 0;
};

}  // namespace detail

/// Compares every slot word with its magazine, every magazine with its lane or ring. A finding
/// counts only if `rounds` further passes, a few milliseconds apart, find the same with the same
/// word. O(slots) a pass; a pool without findings costs one pass.
inline AuditResult audit(const Pool& pool, int rounds = 5) {
    detail::Auditor auditor(pool);
    AuditResult result;
    result.findings = auditor.pass();
    for (int round = 0; round < rounds && !result.findings.empty(); ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
        const std::vector<Finding> again = auditor.pass();
        std::vector<Finding> both;
        std::set_intersection(result.findings.begin(), result.findings.end(), again.begin(),
                              again.end(), std::back_inserter(both));
        std::erase_if(both, [&](const Finding& f) { return !auditor.still(f); });
        result.findings = std::move(both);
    }
    result.slots = auditor.slots();
    result.magazines = pool.magazine_limit() - 1;
    return result;
}

}  // namespace mempool::shm
