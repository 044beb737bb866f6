// Counting slots and comparing all words with all magazines and rings, beside live traffic.
//
// Called by the daemon and, over a read-only mapping, by libmempool's inspector. Writes nothing. A
// thing in motion can look wrong: what does is looked at again, and counts only if it stays as it
// was. A client stopped in the middle of an operation is no fault: the states it can be stopped in
// are accepted (a slot beyond its magazine's count, an item above a slot already got).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "mempool/shm/layout.hpp"
#include "mempool/shm/pool.hpp"

namespace mempool::shm {

/// Where the slots are, each counted once by its word: the sum of the four is the slots there are.
struct Census {
    std::uint64_t slots = 0;             ///< as the segment table says
    std::uint64_t free = 0;              ///< in the depot: any client can get them
    std::uint64_t cached = 0;            ///< in a lane's magazine: that lane gets them first
    std::uint64_t held = 0;              ///< by a client
    std::uint64_t detached = 0;          ///< between clients
    std::uint64_t unknown = 0;           ///< with a word that makes no sense; 0 unless overwritten
    std::vector<std::uint64_t> held_by;  ///< by client id
};

inline Census take_census(const Pool& pool) {
    Census census;
    census.held_by.resize(pool.geometry().shape.client_count);
    MagazineId last = kNoMagazine;
    bool last_owned = false;
    for (std::uint32_t s = 0; s < pool.segment_count(); ++s) {
        const SegmentEntry entry = pool.segment(s);
        census.slots += entry.slot_count;
        for (std::uint32_t i = entry.first_index;
             i < entry.end_index() && i < pool.geometry().index_capacity; ++i) {
            const SlotWord word{pool.word(SlotIndex{i}).load(std::memory_order_acquire)};
            switch (word.state()) {
                case SlotState::kFree:
                    if (raw(word.magazine()) >= pool.geometry().magazine_count) {
                        ++census.unknown;
                        break;
                    }
                    if (word.magazine() != last) {
                        last = word.magazine();
                        last_owned =
                            MagazineWord{pool.magazine(last).word.load(std::memory_order_acquire)}
                                .state() == MagazineState::kOwned;
                    }
                    ++(last_owned ? census.cached : census.free);
                    break;
                case SlotState::kHeld:
                    ++census.held;
                    if (raw(word.client()) < census.held_by.size()) {
                        ++census.held_by[raw(word.client())];
                    }
                    break;
                case SlotState::kDetached:
                    ++census.detached;
                    break;
                default:
                    ++census.unknown;
            }
        }
    }
    return census;
}

/// Slots any client can get at once: those in FULL magazines, by the magazines' counts. Cheaper
/// than a census by the magazine capacity; an estimate while slots move.
inline std::uint64_t count_depot(const Pool& pool) {
    std::uint64_t free = 0;
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const MagazineHead& magazine = pool.magazine(MagazineId{m});
        const MagazineWord word{magazine.word.load(std::memory_order_relaxed)};
        if (word.state() == MagazineState::kFull) {
            const std::uint32_t count = magazine.count.load(std::memory_order_relaxed);
            free += count < pool.magazine_capacity() ? count : pool.magazine_capacity();
        }
    }
    return free;
}

enum class Fault : std::uint8_t {
    kSlotState,      ///< a slot's word is in no known state
    kSlotUnlisted,   ///< a slot says FREE(m) and magazine m doesn't have it: it is lost
    kSlotHolder,     ///< a slot's holder is no attached client
    kMagazineState,  ///< a magazine's word is in no known state
    kMagazineOwner,  ///< a magazine's lane belongs to no attached client
    kMagazineItem,   ///< a magazine in the depot lists a slot that is not in it
    kMagazineHint,   ///< a magazine in the depot stands in no ring cell; the daemon mends this
};

struct Finding {
    Fault fault{};
    std::uint32_t where = 0;  ///< index of the slot, or id of the magazine
    std::uint64_t word = 0;   ///< as it stands there

    friend bool operator==(const Finding&, const Finding&) = default;
};

struct AuditResult {
    std::uint64_t slots = 0;      ///< compared
    std::uint64_t magazines = 0;  ///< compared
    std::vector<Finding> findings;
};

namespace detail {

class Auditor {
public:
    explicit Auditor(const Pool& pool) : pool_(pool) {}

    std::vector<Finding> pass() {
        findings_.clear();
        listed_.assign(pool_.geometry().index_capacity, false);
        check_magazines();
        check_slots();
        return findings_;
    }

    [[nodiscard]] bool still(const Finding& f) const {
        const std::atomic<std::uint64_t>& word = is_slot(f.fault)
                                                     ? pool_.word(SlotIndex{f.where})
                                                     : pool_.magazine(MagazineId{f.where}).word;
        return word.load(std::memory_order_acquire) == f.word;
    }

private:
    static bool is_slot(Fault fault) { return fault <= Fault::kSlotHolder; }

    [[nodiscard]] bool attached(ClientId c) const {
        return raw(c) < pool_.geometry().shape.client_count &&
               (c == kDaemonClient ||
                pool_.client(c).state.load(std::memory_order_acquire) != ClientState::kFree);
    }

    static std::vector<bool> hinted(std::atomic<std::uint64_t>* cells, const Geometry& g) {
        std::vector<bool> seen(g.magazine_count);
        for (std::uint32_t k = 0; k < g.ring_capacity; ++k) {
            const auto m = static_cast<std::uint32_t>(cells[k].load(std::memory_order_acquire));
            if (m < seen.size()) {
                seen[m] = true;
            }
        }
        return seen;
    }

    void check_magazines() {
        const std::vector<bool> full = hinted(pool_.full_cells(), pool_.geometry());
        const std::vector<bool> empty = hinted(pool_.empty_cells(), pool_.geometry());
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
            if (depot && !(word.state() == MagazineState::kFull ? full : empty)[m]) {
                findings_.push_back({Fault::kMagazineHint, m, word.bits});
            }
            if (!list_items(id, magazine) && depot) {
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

    // Marks the slots that lie in `m`; false if an item below the count is not one of them.
    bool list_items(MagazineId m, MagazineHead& magazine) {
        bool sound = magazine.count.load(std::memory_order_acquire) <= pool_.magazine_capacity();
        const std::uint32_t count = magazine.count.load(std::memory_order_acquire);
        for (std::uint32_t k = 0; k < pool_.magazine_capacity(); ++k) {
            const std::uint32_t i = Pool::items(magazine)[k].load(std::memory_order_acquire);
            const bool here =
                i < pool_.index_limit() &&
                SlotWord{pool_.word(SlotIndex{i}).load(std::memory_order_acquire)}.is_free_in(m);
            if (here) {
                listed_[i] = true;
            }
            sound = sound && (here || k >= count);
        }
        return sound;
    }

    void check_slots() {
        for (std::uint32_t s = 0; s < pool_.segment_count(); ++s) {
            const SegmentEntry entry = pool_.segment(s);
            for (std::uint32_t i = entry.first_index;
                 i < entry.end_index() && i < pool_.geometry().index_capacity; ++i) {
                const SlotWord word{pool_.word(SlotIndex{i}).load(std::memory_order_acquire)};
                switch (word.state()) {
                    case SlotState::kFree:
                        if (!listed_[i] && !lists(word.magazine(), i)) {
                            findings_.push_back({Fault::kSlotUnlisted, i, word.bits});
                        }
                        break;
                    case SlotState::kHeld:
                        if (!attached(word.client())) {
                            findings_.push_back({Fault::kSlotHolder, i, word.bits});
                        }
                        break;
                    case SlotState::kDetached:
                        break;
                    default:
                        findings_.push_back({Fault::kSlotState, i, word.bits});
                }
            }
        }
    }

    [[nodiscard]] bool lists(MagazineId m, std::uint32_t index) const {
        if (m == kNoMagazine || raw(m) >= pool_.magazine_limit()) {
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
        std::erase_if(result.findings, [&](const Finding& f) {
            return !auditor.still(f) || std::find(again.begin(), again.end(), f) == again.end();
        });
    }
    for (std::uint32_t s = 0; s < pool.segment_count(); ++s) {
        result.slots += pool.segment(s).slot_count;
    }
    result.magazines = pool.magazine_limit() - 1;
    return result;
}

}  // namespace mempool::shm
