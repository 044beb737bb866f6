#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "fault_names.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/wire.hpp"
#include "mempool/shm/words/names.hpp"
#include "mempool/shm/words/pool.hpp"
#include "mempool/shm/words/pool_clock.hpp"
#include "metadata.hpp"

namespace mempool {
namespace {

using shm::ClientId;
using shm::ClientState;
using shm::LaneId;
using shm::LaneState;
using shm::LaneWord;
using shm::MagazineId;
using shm::MagazineState;
using shm::MagazineWord;
using shm::Pool;
using shm::SegmentEntry;
using shm::SlotIndex;
using shm::SlotState;
using shm::SlotWord;

/// The client that owns lane `l`, if any does.
std::optional<ClientId> owner_of(const Pool& pool, LaneId l) {
    if (raw(l) >= pool.geometry().lane_count) {
        return std::nullopt;
    }
    const LaneWord word{pool.lane(l).word.load(std::memory_order_acquire)};
    if (word.state() != LaneState::kOwned ||
        raw(word.client()) >= pool.geometry().shape.client_count) {
        return std::nullopt;
    }
    return word.client();
}

bool is_attached(ClientState state) { return state != ClientState::kFree; }

const char* name_of(ClientState state) {
    switch (state) {
        case ClientState::kActive:
            return "active";
        case ClientState::kLeaving:
            return "leaving";
        case ClientState::kEnded:
            return "ended";
        case ClientState::kUnseen:
            return "unseen";
        default:
            return "dead";
    }
}

const char* state_of(const Pool& pool, SlotWord word) {
    switch (word.state()) {
        case SlotState::kFree: {
            if (raw(word.magazine()) >= pool.magazine_limit()) {
                return "unknown";
            }
            const MagazineWord magazine{
                pool.magazine(word.magazine()).word.load(std::memory_order_acquire)};
            return magazine.state() == MagazineState::kOwned ? "cached" : "free";
        }
        case SlotState::kHeld:
            return "held";
        case SlotState::kShown:
            return "shown";
        case SlotState::kDetached:
            return "detached";
        default:
            return "unknown";
    }
}

/// A time of the pool's clock as a date, for people: so long ago by that clock. 0 for 0.
std::uint64_t date_of(const Pool& pool, std::uint32_t stamp) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const std::int64_t date = std::chrono::duration_cast<std::chrono::seconds>(now).count() -
                              std::int64_t{shm::age_of_stamp(pool.live(), stamp)};
    return stamp == 0 || date < 0 ? 0 : static_cast<std::uint64_t>(date);
}

/// The process of the client that detached a slot at `stamp`; 0 if that client is gone.
std::uint32_t detached_by(const Pool& pool, ClientId client, std::uint32_t stamp) {
    if (raw(client) == 0 || raw(client) >= pool.geometry().shape.client_count) {
        return 0;
    }
    const shm::ClientRecord& record = pool.client(client);
    const bool same =
        is_attached(record.state.load(std::memory_order_acquire)) && record.attached_at <= stamp;
    return same ? record.pid : 0;
}

SlotInfo look_at(const Pool& pool, std::uint32_t index) {
    const SlotIndex i{index};
    const SlotWord word{pool.word(i).load(std::memory_order_acquire)};
    SlotInfo info;
    info.index = index;
    info.state = state_of(pool, word);
    info.generation = raw(word.generation());
    const std::uint32_t stamp = pool.record(i).time.load(std::memory_order_relaxed);
    info.since = date_of(pool, stamp);
    info.tag = pool.record(i).tag.load(std::memory_order_relaxed);
    info.offset = pool.geometry().offset_of(i);
    info.handle = word.has_handle() ? Handle(index, info.generation).value() : 0;
    if (word.is_held()) {
        info.holder = raw(word.client());
        if (info.holder < pool.geometry().shape.client_count) {
            info.pid = pool.client(word.client()).pid;
        }
    } else if (word.state() == SlotState::kDetached) {
        info.holder = raw(word.client());
        info.pid = detached_by(pool, word.client(), stamp);
    }
    return info;
}

std::string text_of(const std::array<std::uint8_t, 16>& uuid) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (std::size_t k = 0; k < uuid.size(); ++k) {
        if (k == 4 || k == 6 || k == 8 || k == 10) {
            text += '-';
        }
        text += kDigits[uuid.at(k) >> 4U];
        text += kDigits[uuid.at(k) & 15U];
    }
    return text;
}

AuditFinding explain(const shm::Finding& finding) {
    const std::string number = std::to_string(finding.where);
    const auto found = [&](std::string text) {
        return AuditFinding{.fault = detail::name_of(finding.fault),
                            .text = std::move(text),
                            .where = finding.where};
    };
    switch (finding.fault) {
        case shm::Fault::kSlotState:
            return found("slot " + number + " is in no known state");
        case shm::Fault::kSlotUnlisted:
            return found("slot " + number +
                         " is free by its word but its magazine does not list it");
        case shm::Fault::kSlotHolder:
            return found("slot " + number + " is held by a client that is not attached");
        case shm::Fault::kMagazineState:
            return found("magazine " + number + " is in no known state");
        case shm::Fault::kMagazineOwner:
            return found("magazine " + number + " belongs to a lane that no attached client owns");
        case shm::Fault::kMagazineItem:
            return found("magazine " + number + " does not list just the slots that are in it");
        case shm::Fault::kMagazineHint:
            return found("magazine " + number +
                         " is in the depot but no ring names it; mempoold mends this");
        case shm::Fault::kRing:
            return found("shard " + std::to_string(finding.where / shm::kRingsPerShard) +
                         (shm::state_in(shm::RingId{finding.where}) == shm::MagazineState::kFull
                              ? ": the ring of magazines with slots"
                              : ": the ring of empty magazines") +
                         " contradicts itself; mempoold mends this");
        case shm::Fault::kLaneState:
            return found("lane " + number + " is in no known state");
        case shm::Fault::kLaneOwner:
            return found("lane " + number + " belongs to a client that is not attached");
        case shm::Fault::kClientRecord:
            return found("the record of client " + number + " is in no known state");
        default:
            return found("a fault this release does not know");
    }
}

/// Adds up what the lanes have counted.
void add_lanes(const Pool& pool, PoolStatus& status) {
    for (std::uint32_t l = 0; l < pool.geometry().lane_count; ++l) {
        const shm::LaneRecord& lane = pool.lane(LaneId{l});
        status.gets += lane.gets.load(std::memory_order_relaxed);
        status.puts += lane.puts.load(std::memory_order_relaxed);
        status.steals += lane.steals.load(std::memory_order_relaxed);
        status.exhausted += lane.exhausted.load(std::memory_order_relaxed);
        status.refused += lane.refused.load(std::memory_order_relaxed);
        if (l != raw(shm::kDaemonLane) && owner_of(pool, LaneId{l})) {
            ++status.lanes;
            status.waiters += lane.waiting.load(std::memory_order_relaxed);
        }
    }
}

void add_live(const Pool& pool, PoolStatus& status) {
    const shm::Live& live = pool.live();
    status.reclaimed = live.reclaimed.load(std::memory_order_relaxed);
    status.deaths = live.deaths.load(std::memory_order_relaxed);
    status.grown = live.grown.load(std::memory_order_relaxed);
    status.grow_failures = live.grow_failures.load(std::memory_order_relaxed);
    status.daemon_pid = live.daemon_pid.load(std::memory_order_relaxed);
    status.daemon_starts = live.daemon_starts.load(std::memory_order_relaxed);
    status.quota = live.quota.load(std::memory_order_relaxed);
    status.erase_on_put = (live.options.load(std::memory_order_relaxed) & shm::kEraseOnPut) != 0;
}

}  // namespace

struct Inspector::Impl {
    Impl(std::unique_ptr<detail::MetadataSource> source, std::string_view name)
        : copy(std::move(source), name) {}

    [[nodiscard]] const Pool& pool() const noexcept { return copy.pool(); }
    [[nodiscard]] const detail::PoolIdentity& identity() const noexcept { return copy.identity(); }
    /// The pool as it is now.
    [[nodiscard]] const Pool& look() {
        copy.refresh();
        return copy.pool();
    }
    detail::MetadataCopy copy;
};

Inspector::Inspector(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Inspector::Inspector(Inspector&&) noexcept = default;
Inspector& Inspector::operator=(Inspector&&) noexcept = default;
Inspector::~Inspector() = default;

Inspector Inspector::open(std::string_view pool, const AttachOptions& options, LookAt at) {
    return Inspector(std::make_unique<Impl>(detail::find_source(pool, options, at), pool));
}

bool Inspector::served() const noexcept { return impl_->copy.source().served(); }

std::string Inspector::note() const { return impl_->copy.source().note(); }

PoolStatus Inspector::status() const {
    const Pool& pool = impl_->look();
    const shm::Geometry& g = pool.geometry();
    PoolStatus status;
    status.pool = impl_->identity().name;
    status.uuid = text_of(impl_->identity().uuid);
    status.slot_size = g.shape.slot_size;
    status.slot_stride = g.slot_stride;
    status.max_slots = g.shape.max_slots;
    status.shards = g.shape.shard_count;
    status.magazine_capacity = g.shape.magazine_capacity;
    status.metadata_bytes = g.slots_offset;
    status.max_clients = g.shape.client_count - 1;
    status.created_at = impl_->identity().created_at;
    status.segments = impl_->copy.segments().size();
    status.missing_names = impl_->copy.source().missing_names();
    const shm::Census census = shm::take_census(pool);
    status.slots = census.slots;
    status.free = census.free;
    status.cached = census.cached;
    status.held = census.held;
    status.detached = census.detached;
    status.unknown = census.unknown;
    for (std::uint32_t c = 1; c < g.shape.client_count; ++c) {
        status.clients +=
            is_attached(pool.client(ClientId{c}).state.load(std::memory_order_acquire)) ? 1U : 0U;
    }
    add_lanes(pool, status);
    add_live(pool, status);
    return status;
}

std::vector<ClientInfo> Inspector::clients() const {
    const Pool& pool = impl_->look();
    const std::uint32_t count = pool.geometry().shape.client_count;
    const shm::Census census = shm::take_census(pool);
    std::vector<std::uint64_t> cached(count);
    std::vector<std::uint32_t> lanes(count);
    for (std::uint32_t l = 0; l < pool.geometry().lane_count; ++l) {
        if (const auto owner = owner_of(pool, LaneId{l})) {
            ++lanes[raw(*owner)];
        }
    }
    for (std::uint32_t m = 1; m < pool.magazine_limit(); ++m) {
        const shm::MagazineHead& magazine = pool.magazine(MagazineId{m});
        const MagazineWord word{magazine.word.load(std::memory_order_acquire)};
        const auto owner =
            word.state() == MagazineState::kOwned ? owner_of(pool, word.lane()) : std::nullopt;
        if (owner) {
            cached[raw(*owner)] +=
                std::min(magazine.count.load(std::memory_order_relaxed), pool.magazine_capacity());
        }
    }
    std::vector<ClientInfo> clients;
    for (std::uint32_t c = 1; c < count; ++c) {
        const shm::ClientRecord& record = pool.client(ClientId{c});
        const ClientState state = record.state.load(std::memory_order_acquire);
        if (is_attached(state)) {
            clients.push_back({.id = c,
                               .pid = record.pid,
                               .uid = record.uid,
                               .command = std::string(shm::text_of(record.command)),
                               .state = name_of(state),
                               .epoch = record.epoch.load(std::memory_order_relaxed),
                               .attached_at = date_of(pool, record.attached_at),
                               .held = census.held_by[c],
                               .cached = cached[c],
                               .quota = pool.live().quota.load(std::memory_order_relaxed),
                               .lanes = lanes[c]});
        }
    }
    return clients;
}

std::vector<SegmentInfo> Inspector::segments() const {
    const Pool& pool = impl_->look();
    std::vector<SegmentInfo> segments;
    for (const SegmentEntry& entry : impl_->copy.segments()) {
        const auto number = static_cast<std::uint32_t>(segments.size());
        segments.push_back(
            {.number = number,
             .object = (entry.object == 0 ? "memfd:" : "") +
                       shm::object_name(impl_->identity().name, number, entry.object).substr(1),
             .first_index = entry.first_index,
             .slots = entry.slot_count,
             .file_bytes = shm::segment_file_bytes(pool.geometry(), number, entry.slot_count),
             .added_at = entry.added_at});
    }
    return segments;
}

void Inspector::visit_slots(const std::function<bool(const SlotInfo&)>& visit) const {
    const Pool& pool = impl_->look();
    for (const SegmentEntry& entry : impl_->copy.segments()) {
        for (std::uint32_t i = entry.first_index; i < entry.end_index(); ++i) {
            if (!visit(look_at(pool, i))) {
                return;
            }
        }
    }
}

// What is in motion can look wrong in a copy: a finding counts only if later copies show it too,
// with the same word. A ring that moved while it was copied is not judged.
AuditReport Inspector::audit() const {
    constexpr int kRounds = 5;
    constexpr std::chrono::milliseconds kPause{2};
    const auto look = [this] {
        const Pool& pool = impl_->look();
        static_cast<void>(impl_->copy.segments());  // throws if the table was overwritten
        shm::AuditResult result = shm::audit(pool, 0);
        std::erase_if(result.findings, [this](const shm::Finding& finding) {
            return finding.fault == shm::Fault::kRing &&
                   !impl_->copy.ring_stood_still(shm::RingId{finding.where});
        });
        return result;
    };
    shm::AuditResult result = look();
    for (int round = 0; round < kRounds && !result.findings.empty(); ++round) {
        std::this_thread::sleep_for(kPause);
        const shm::AuditResult again = look();
        std::vector<shm::Finding> both;
        std::set_intersection(result.findings.begin(), result.findings.end(),
                              again.findings.begin(), again.findings.end(),
                              std::back_inserter(both));
        result.findings = std::move(both);
    }
    AuditReport report{.slots = result.slots, .magazines = result.magazines, .findings = {}};
    for (const shm::Finding& finding : result.findings) {
        report.findings.push_back(explain(finding));
    }
    return report;
}

}  // namespace mempool
