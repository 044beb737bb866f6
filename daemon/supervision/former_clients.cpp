#include "daemon/supervision/former_clients.hpp"

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "daemon/base/fail.hpp"
#include "daemon/storage/shm_object.hpp"
#include "daemon/storage/storage.hpp"
#include "daemon/supervision/process.hpp"
#include "daemon/supervision/token.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLongestStep{5};

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

class Looker {
public:
    Looker(UniqueFd file, const FdStore& store, std::chrono::milliseconds longest)
        : file_(std::move(file)), longest_(longest) {
        const struct stat status = status_of(file_.get());
        mapped_ = {.device = status.st_dev, .inode = status.st_ino};
        shm::Header header{};
        if (const int error =
                read_at(file_.get(), static_cast<void*>(&header), sizeof(header), 0)) {
            fail(error, "cannot read its header");
        }
        const auto size = static_cast<std::uint64_t>(status.st_size);
        count_ = header.geometry.shape.client_count;
        clients_at_ = header.geometry.clients_offset;
        if (count_ < 2 || count_ > shm::kMaxClients || clients_at_ < 2 * shm::kPage ||
            clients_at_ > size) {
            throw std::runtime_error("its header makes no sense");
        }
        lanes_at_ = shm::round_up(clients_at_ + count_ * sizeof(shm::ClientRecord), shm::kPage);
        if (lanes_at_ + count_ * sizeof(shm::LaneRecord) > size) {
            throw std::runtime_error("it was truncated");
        }
        key_ = pool_key(header.uuid);
        pidfds_ = store.copy_clients(key_);
    }

    std::optional<std::vector<FormerClient>> step() {
        const Clock::time_point begin = Clock::now();
        give_up_ = give_up_.value_or(begin + longest_);
        while (next_ < count_) {
            look_at(next_);
            ++next_;
            if (Clock::now() >= begin + kLongestStep) {
                return std::nullopt;
            }
        }
        return std::move(living_);
    }

private:
    void look_at(std::uint32_t id) {
        shm::ClientRecord record{};
        read(record, clients_at_, id);
        if (record.state.load(std::memory_order_relaxed) == shm::ClientState::kFree) {
            return;
        }
        if (Clock::now() >= give_up_) {
            living_.push_back({.pid = static_cast<pid_t>(record.pid), .seen = false});
            return;
        }
        shm::LaneRecord home{};
        read(home, lanes_at_, id);
        if (const auto lives = judge_client(read_client(key_, id, record, home))) {
            living_.push_back(*lives);
        }
    }
    template <typename Record>
    void read(Record& record, std::uint64_t from, std::uint32_t id) const {
        if (const int error = read_at(file_.get(), static_cast<void*>(&record), sizeof(record),
                                      from + id * sizeof(record))) {
            fail(error, "cannot read its clients");
        }
    }
    // nullopt: it uses the pool no more.
    std::optional<FormerClient> judge_client(const Entry& client) {
        UniqueFd pidfd;
        if (const auto stored = pidfds_.find(client.stored); stored != pidfds_.end()) {
            pidfd = std::move(stored->second);
        }
        if (pidfd && !may_be(pidfd.get(), client.process)) {
            pidfd.reset();
        }
        const Fate fate = pidfd ? (has_ended(pidfd.get()) ? Fate::kDead : Fate::kAlive)
                                : judge(client.process, pidfd);
        if (fate == Fate::kDead) {
            return std::nullopt;
        }
        const Mapping mapping = fate == Fate::kAlive
                                    ? find_mapping(pidfd.get(), client.process, mapped_)
                                    : Mapping::kUnknown;
        // One that has not said where it mapped the pool may be about to.
        if (mapping != Mapping::kPresent &&
            (client.over || (mapping == Mapping::kAbsent && client.mapped))) {
            return std::nullopt;
        }
        return FormerClient{.pid = client.process.pid, .seen = fate == Fate::kAlive};
    }

    UniqueFd file_;
    std::chrono::milliseconds longest_;
    MappedFile mapped_;
    std::uint32_t count_ = 0;
    std::uint64_t clients_at_ = 0;
    std::uint64_t lanes_at_ = 0;
    std::uint64_t key_ = 0;
    std::map<ClientName, UniqueFd> pidfds_;
    std::optional<Clock::time_point> give_up_;  // once it has begun
    std::uint32_t next_ = 1;
    std::vector<FormerClient> living_;
};

}  // namespace

PoolStart::Look look_for_former_clients(UniqueFd file, const FdStore& store,
                                        std::chrono::milliseconds longest) {
    return [looker = std::make_shared<Looker>(std::move(file), store, longest)] {
        return looker->step();
    };
}

}  // namespace mempoold
