#include "daemon/supervision/former_clients.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "daemon/storage/shm_object.hpp"
#include "daemon/storage/storage.hpp"
#include "daemon/supervision/process.hpp"
#include "daemon/supervision/token.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
using Clock = std::chrono::steady_clock;

/// For the maps of all clients together: they decide how long that takes. Of who is not looked at
/// any more, his record is believed.
constexpr std::chrono::milliseconds kLongestLook{500};

/// What the records say of one client.
struct Entry {
    ClientName stored;  // as its pidfd is called in the store
    ProcessId process;
    bool over = false;    // it left, or its reclaim had begun
    bool mapped = false;  // it said that it had mapped the pool
};

Entry read_client(std::uint64_t key, std::uint32_t id, const shm::ClientRecord& record,
                  const shm::LaneRecord& home) {
    const shm::ClientState state = record.state.load(std::memory_order_relaxed);
    const std::uint64_t farewell = home.farewell.load(std::memory_order_relaxed);
    const std::uint32_t epoch = record.epoch.load(std::memory_order_relaxed);
    Entry client;
    client.stored = {key, id, epoch - (state == shm::ClientState::kEnded ? 1U : 0U)};
    client.process = {.pid = static_cast<pid_t>(record.pid),
                      .key = record.process,
                      .pid_namespace = record.pid_namespace,
                      .time_namespace = record.time_namespace};
    client.over =
        state == shm::ClientState::kDead || (state == shm::ClientState::kLeaving && farewell != 0 &&
                                             hash_of_token(farewell) == record.token_hash);
    client.mapped = home.mapped_at.load(std::memory_order_relaxed) != 0;
    return client;
}

// nullopt: it uses the pool no more.
std::optional<FormerClient> judge_client(const Entry& client, const FdStore& store,
                                         const MappedFile& file, Clock::time_point give_up) {
    UniqueFd pidfd;
    if (const int stored = store.client(client.stored); stored >= 0) {
        pidfd.reset(::fcntl(stored, F_DUPFD_CLOEXEC, 3));
    }
    if (pidfd && !may_be(pidfd.get(), client.process)) {
        pidfd.reset();
    }
    const Fate fate = pidfd ? (has_ended(pidfd.get()) ? Fate::kDead : Fate::kAlive)
                            : judge(client.process, pidfd);
    if (fate == Fate::kDead) {
        return std::nullopt;
    }
    Mapping mapping = Mapping::kUnknown;
    if (fate == Fate::kAlive && Clock::now() < give_up) {
        mapping = find_mapping(pidfd.get(), client.process, file);
    }
    // One that has not said where it mapped the pool may be about to.
    if (mapping != Mapping::kPresent &&
        (client.over || (mapping == Mapping::kAbsent && client.mapped))) {
        return std::nullopt;
    }
    return FormerClient{.pid = client.process.pid, .seen = fate == Fate::kAlive};
}

}  // namespace

std::vector<FormerClient> living_former_clients(int file, const FdStore& store) {
    shm::Header header{};
    struct stat status {};
    if (::fstat(file, &status) != 0 ||
        read_at(file, static_cast<void*>(&header), sizeof(header), 0) != 0 ||
        !is_of_former_layout(header)) {
        return {};
    }
    const std::uint32_t count = header.geometry.shape.client_count;
    const std::uint64_t clients_at = header.geometry.clients_offset;
    if (count > shm::kMaxClients || clients_at > static_cast<std::uint64_t>(status.st_size)) {
        return {};
    }
    const std::uint64_t lanes_at =
        shm::round_up(clients_at + count * sizeof(shm::ClientRecord), shm::kPage);
    const MappedFile mapped{.device = status.st_dev, .inode = status.st_ino};
    const Clock::time_point give_up = Clock::now() + kLongestLook;
    std::vector<FormerClient> living;
    for (std::uint32_t id = 1; id < count; ++id) {
        shm::ClientRecord record{};
        shm::LaneRecord home{};
        if (read_at(file, static_cast<void*>(&record), sizeof(record),
                    clients_at + id * sizeof(record)) != 0 ||
            read_at(file, static_cast<void*>(&home), sizeof(home), lanes_at + id * sizeof(home)) !=
                0) {
            break;  // it was truncated
        }
        if (record.state.load(std::memory_order_relaxed) == shm::ClientState::kFree) {
            continue;
        }
        const Entry client = read_client(pool_key(header.uuid), id, record, home);
        if (const auto lives = judge_client(client, store, mapped, give_up)) {
            living.push_back(*lives);
        }
    }
    return living;
}

}  // namespace mempoold
