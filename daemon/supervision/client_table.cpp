#include "daemon/supervision/client_table.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>

#include "daemon/supervision/token.hpp"
#include "mempool/shm/recovery/end_client.hpp"

namespace mempoold {

namespace shm = mempool::shm;

ClientTable::ClientTable(const shm::Pool& view)
    : view_(view), entries_(view.geometry().shape.client_count) {
    entries_.front().attached = true;  // the daemon
    for (std::uint32_t id = 0; id < entries_.size(); ++id) {
        entries_[id].epoch = view_.client(shm::ClientId{id}).epoch.load(std::memory_order_relaxed);
    }
}

std::optional<shm::ClientId> ClientTable::add(const ClientIdentity& client, std::uint64_t now) {
    std::size_t best = 0;
    for (std::size_t id = 1; id < entries_.size(); ++id) {
        const Entry& entry = entries_[id];
        if (!entry.attached && (best == 0 || entry.freed < entries_[best].freed)) {
            best = id;
        }
    }
    if (best == 0) {
        return std::nullopt;
    }
    Entry& entry = entries_[best];
    entry.attached = true;
    entry.identity = client;
    entry.attached_at = static_cast<std::uint32_t>(now);
    const shm::ClientId id{static_cast<std::uint32_t>(best)};
    view_.lane(shm::LaneId{raw(id)}).farewell.store(0, std::memory_order_relaxed);
    view_.lane(shm::LaneId{raw(id)}).mapped_at.store(0, std::memory_order_relaxed);
    describe(entry, view_.client(id));
    show(id, shm::ClientState::kActive);
    return id;
}

void ClientTable::describe(const Entry& entry, shm::ClientRecord& record) noexcept {
    const ClientIdentity& client = entry.identity;
    record.pid = static_cast<std::uint32_t>(client.process.pid);
    record.uid = client.uid;
    record.gid = client.gid;
    record.process = client.process.key;
    record.attached_at = entry.attached_at;
    record.epoch.store(entry.epoch, std::memory_order_relaxed);
    std::memset(record.command, 0, sizeof(record.command));
    std::memcpy(record.command, client.command.data(),
                std::min(client.command.size(), sizeof(record.command)));
    record.token_hash = client.token_hash;
    record.pid_namespace = client.process.pid_namespace;
    record.time_namespace = client.process.time_namespace;
}

void ClientTable::show(shm::ClientId id, shm::ClientState state) {
    entries_[raw(id)].shown = state;
    view_.client(id).state.store(state, std::memory_order_release);
}

std::uint64_t ClientTable::restore() noexcept {
    std::uint64_t wrong = 0;
    for (std::uint32_t number = 1; number < entries_.size(); ++number) {
        const Entry& entry = entries_[number];
        shm::ClientRecord& record = view_.client(shm::ClientId{number});
        const shm::ClientState state = record.state.load(std::memory_order_acquire);
        if (!entry.attached) {
            if (state != shm::ClientState::kFree) {
                record.state.store(shm::ClientState::kFree, std::memory_order_release);
                ++wrong;
            }
            continue;
        }
        shm::ClientRecord right{};
        describe(entry, right);
        // Its client may write LEAVING at any time; what that is worth, says_leaving() tells.
        const bool known = state == entry.shown || state == shm::ClientState::kLeaving;
        if (!known || record.pid != right.pid || record.uid != right.uid ||
            record.gid != right.gid || record.process != right.process ||
            record.attached_at != right.attached_at ||
            record.epoch.load(std::memory_order_relaxed) != entry.epoch ||
            record.token_hash != right.token_hash || record.pid_namespace != right.pid_namespace ||
            record.time_namespace != right.time_namespace ||
            std::memcmp(record.command, right.command, sizeof(right.command)) != 0) {
            describe(entry, record);
            record.state.store(known ? state : entry.shown, std::memory_order_release);
            ++wrong;
        }
    }
    return wrong;
}

std::uint32_t ClientTable::count() const noexcept {
    return static_cast<std::uint32_t>(std::count_if(std::next(entries_.begin()), entries_.end(),
                                                    [](const Entry& e) { return e.attached; }));
}

std::uint32_t ClientTable::count_of(uid_t uid) const noexcept {
    // The first entry is the daemon's own.
    return static_cast<std::uint32_t>(std::count_if(
        std::next(entries_.begin()), entries_.end(),
        [uid](const Entry& entry) { return entry.attached && entry.identity.uid == uid; }));
}

std::optional<ClientTable::Found> ClientTable::recorded(shm::ClientId id) const {
    const shm::ClientRecord& record = view_.client(id);
    const shm::ClientState state = record.state.load(std::memory_order_acquire);
    if (state == shm::ClientState::kFree) {
        return std::nullopt;
    }
    Found found;
    found.client.process.pid = static_cast<pid_t>(record.pid);
    found.client.process.key = record.process;
    found.client.process.pid_namespace = record.pid_namespace;
    found.client.process.time_namespace = record.time_namespace;
    found.client.uid = record.uid;
    found.client.gid = record.gid;
    found.client.token_hash = record.token_hash;
    found.client.command.assign(record.command, ::strnlen(record.command, sizeof(record.command)));
    if (state == shm::ClientState::kDead) {
        found.state = Recorded::kDead;
    } else if (state == shm::ClientState::kEnded) {
        found.state = Recorded::kEnded;
    } else if (state == shm::ClientState::kLeaving && proves_leaving(id, found.client.token_hash)) {
        found.state = Recorded::kLeft;
    }
    return found;
}

void ClientTable::readmit(shm::ClientId id, const Found& found) {
    Entry& entry = entries_[raw(id)];
    entry.attached = true;
    entry.identity = found.client;
    entry.attached_at = view_.client(id).attached_at;
    show(id,
         found.state == Recorded::kEnded ? shm::ClientState::kEnded : shm::ClientState::kActive);
}

// By CAS: its client may have written LEAVING meanwhile, which must stay.
void ClientTable::show_as_unseen(shm::ClientId id, bool unseen) {
    shm::ClientState from = unseen ? shm::ClientState::kActive : shm::ClientState::kUnseen;
    const shm::ClientState to = unseen ? shm::ClientState::kUnseen : shm::ClientState::kActive;
    if (entries_[raw(id)].shown == from) {
        entries_[raw(id)].shown = to;
        view_.client(id).state.compare_exchange_strong(from, to, std::memory_order_acq_rel,
                                                       std::memory_order_relaxed);
    }
}

void ClientTable::set_process(shm::ClientId id, const ProcessId& process) {
    entries_[raw(id)].identity.process = process;
    describe(entries_[raw(id)], view_.client(id));
}

void ClientTable::raise_epoch(shm::ClientId id) {
    shm::raise_epoch(view_, id, ++entries_[raw(id)].epoch);
}

void ClientTable::mark_ended(shm::ClientId id) {
    if (entries_[raw(id)].shown != shm::ClientState::kEnded) {
        raise_epoch(id);
        show(id, shm::ClientState::kEnded);
    }
}

void ClientTable::mark_dead(shm::ClientId id) {
    raise_epoch(id);
    show(id, shm::ClientState::kDead);
}

void ClientTable::remove(shm::ClientId id) {
    Entry& entry = entries_[raw(id)];
    entry.attached = false;
    entry.freed = ++removals_;
    show(id, shm::ClientState::kFree);
}

bool ClientTable::proves_leaving(shm::ClientId id, std::uint64_t token_hash) const {
    const std::uint64_t token =
        view_.lane(shm::LaneId{raw(id)}).farewell.load(std::memory_order_relaxed);
    return token != 0 && hash_of_token(token) == token_hash;
}

bool ClientTable::says_leaving(shm::ClientId id) const {
    return view_.client(id).state.load(std::memory_order_acquire) == shm::ClientState::kLeaving &&
           proves_leaving(id, entries_[raw(id)].identity.token_hash);
}

}  // namespace mempoold
