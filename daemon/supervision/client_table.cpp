#include "daemon/supervision/client_table.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>

namespace mempoold {

namespace shm = mempool::shm;

ClientTable::ClientTable(const shm::Pool& view)
    : view_(view), entries_(view.geometry().shape.client_count) {
    entries_.front().attached = true;  // the daemon
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
    entries_[best].attached = true;
    entries_[best].identity = client;
    const shm::ClientId id{static_cast<std::uint32_t>(best)};
    entries_[best].attached_at = now;
    shm::ClientRecord& record = view_.client(id);
    describe(entries_[best], record);
    record.state.store(shm::ClientState::kActive, std::memory_order_release);
    return id;
}

void ClientTable::describe(const Entry& entry, shm::ClientRecord& record) noexcept {
    const ClientIdentity& client = entry.identity;
    record.pid = static_cast<std::uint32_t>(client.pid);
    record.uid = client.uid;
    record.gid = client.gid;
    record.process = client.start_time;
    record.attached_at = static_cast<std::uint32_t>(entry.attached_at);
    std::memset(record.command, 0, sizeof(record.command));
    std::memcpy(record.command, client.command.data(),
                std::min(client.command.size(), sizeof(record.command)));
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
        const bool known =
            state == shm::ClientState::kActive || state == shm::ClientState::kLeaving;
        if (!known || record.pid != right.pid || record.uid != right.uid ||
            record.gid != right.gid || record.process != right.process ||
            record.attached_at != right.attached_at ||
            std::memcmp(record.command, right.command, sizeof(right.command)) != 0) {
            describe(entry, record);
            record.state.store(known ? state : shm::ClientState::kActive,
                               std::memory_order_release);
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

std::optional<ClientIdentity> ClientTable::recorded(shm::ClientId id) const {
    const shm::ClientRecord& record = view_.client(id);
    if (record.state.load(std::memory_order_acquire) != shm::ClientState::kActive) {
        return std::nullopt;
    }
    ClientIdentity client;
    client.pid = static_cast<pid_t>(record.pid);
    client.uid = record.uid;
    client.gid = record.gid;
    client.start_time = record.process;
    client.command.assign(record.command, ::strnlen(record.command, sizeof(record.command)));
    return client;
}

void ClientTable::readmit(shm::ClientId id, const ClientIdentity& client) {
    entries_[raw(id)].attached = true;
    entries_[raw(id)].identity = client;
    entries_[raw(id)].attached_at = view_.client(id).attached_at;
}

void ClientTable::mark_dead(shm::ClientId id) {
    view_.client(id).state.store(shm::ClientState::kDead, std::memory_order_release);
}

void ClientTable::remove(shm::ClientId id) {
    Entry& entry = entries_[raw(id)];
    entry.attached = false;
    entry.freed = ++removals_;
    view_.client(id).state.store(shm::ClientState::kFree, std::memory_order_release);
}

bool ClientTable::says_leaving(shm::ClientId id) const {
    return view_.client(id).state.load(std::memory_order_acquire) == shm::ClientState::kLeaving;
}

bool ClientTable::is_attached(shm::ClientId id) const noexcept {
    return raw(id) < entries_.size() && entries_[raw(id)].attached;
}

}  // namespace mempoold
