#include "daemon/supervision/supervisor.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include "daemon/base/log.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

/// How many clients one recheck() looks at.
constexpr std::size_t kRechecksPerSecond = 64;
constexpr std::chrono::milliseconds kLookTimePerSecond{100};

}  // namespace

std::shared_ptr<Attachment> Supervisor::attach(const std::shared_ptr<ServedPool>& pool,
                                               shm::ClientId id, UniqueFd pidfd) {
    auto client = std::make_shared<Attachment>(*this, io_, pool, id, Attachment::Stage::kOffered);
    client->watch(std::move(pidfd));
    clients_[{pool.get(), raw(id)}] = client;
    return client;
}

void Supervisor::adopt(const std::shared_ptr<ServedPool>& pool) {
    std::uint32_t alive = 0;
    std::uint32_t unseen = 0;
    ClientTable& table = pool->clients();
    for (std::uint32_t number = 1; number < table.size(); ++number) {
        const shm::ClientId id{number};
        const auto found = table.recorded(id);
        if (!found || found->state == Recorded::kLeft || found->state == Recorded::kDead) {
            continue;
        }
        const ProcessId& process = found->client.process;
        // A pidfd that a service manager kept tells of a death in any namespace.
        const ClientName name{pool->storage().key(), number, table.epoch(id)};
        UniqueFd pidfd = store_.take_client(name);
        if (pidfd && !may_be(pidfd.get(), process)) {
            pidfd.reset();
            store_.forget_client(name);
        }
        const Fate fate =
            pidfd ? (has_ended(pidfd.get()) ? Fate::kDead : Fate::kAlive) : judge(process, pidfd);
        if (fate == Fate::kDead) {
            store_.forget_client(name);  // its pidfd must not speak for the next one
            log_info("pool '{}': client {} (pid {}) died while no daemon was there", pool->name(),
                     number, process.pid);
            pool->view().live().deaths.fetch_add(1, std::memory_order_relaxed);
            continue;
        }
        table.readmit(id, *found);
        auto client = std::make_shared<Attachment>(*this, io_, pool, id,
                                                   found->state == Recorded::kEnded
                                                       ? Attachment::Stage::kEnded
                                                       : Attachment::Stage::kApart);
        clients_[{pool.get(), number}] = client;
        client->watch(std::move(pidfd));
        ++alive;
        if (client->pidfd() < 0) {
            table.show_as_unseen(id, true);
            ++unseen;
            log_warning(
                "pool '{}': client {} (pid {}, {}) cannot be seen from here and counts as alive; "
                "once you know that it has ended: mempoolctl reclaim {} --client {} --force",
                pool->name(), number, process.pid, found->client.command, pool->name(), number);
        }
    }
    if (alive != 0) {
        log_info("pool '{}': {} clients of the former daemon go on{}", pool->name(), alive,
                 unseen == 0 ? "" : fmt::format(", of which {} cannot be seen", unseen));
    }
}

std::shared_ptr<Attachment> Supervisor::find(const ServedPool& pool, std::uint64_t number) const {
    if (number > std::numeric_limits<std::uint32_t>::max()) {
        return nullptr;
    }
    const auto found = clients_.find({&pool, static_cast<std::uint32_t>(number)});
    return found == clients_.end() ? nullptr : found->second;
}

std::uint32_t Supervisor::sweep(const ServedPool& pool) {
    std::vector<std::shared_ptr<Attachment>> mine;
    for (const auto& [key, client] : clients_) {
        if (key.first == &pool) {
            mine.push_back(client);
        }
    }
    return static_cast<std::uint32_t>(
        std::count_if(mine.begin(), mine.end(),
                      [](const auto& client) { return client->is_live() && client->look(); }));
}

void Supervisor::recheck() {
    std::vector<std::shared_ptr<Attachment>> next = std::exchange(again_, {});
    const std::size_t most = next.size() + kRechecksPerSecond;
    auto at = clients_.lower_bound(next_recheck_);
    for (std::size_t seen = 0; seen < clients_.size() && next.size() < most; ++seen) {
        at = at == clients_.end() ? clients_.begin() : at;
        next.push_back(at->second);
        ++at;
    }
    next_recheck_ = at == clients_.end() ? Key{nullptr, 0} : at->first;
    for (const auto& client : next) {
        client->look();
    }
    look_time_left_ = kLookTimePerSecond;
    begin_next_look();
}

void Supervisor::queue_look(std::shared_ptr<Attachment> client) {
    looks_.push_back(std::move(client));
    begin_next_look();
}

void Supervisor::begin_next_look() {
    while (!looking_ && !looks_.empty() && look_time_left_ > Clock::duration::zero()) {
        const std::shared_ptr<Attachment> client = std::move(looks_.front());
        looks_.pop_front();
        auto look = client->begin_look();
        if (!look) {
            continue;
        }
        looking_ = true;
        const auto took = std::make_shared<Clock::duration>();
        worker_.submit(
            [look, took] {
                const auto start = Clock::now();
                look->found = find_mapping(look->pidfd.get(), look->process, look->file);
                *took = Clock::now() - start;
            },
            [this, client, look, took] {
                looking_ = false;
                look_time_left_ -= *took;
                client->looked(*look);
                begin_next_look();
            });
    }
}

void Supervisor::drop(const ServedPool& pool) {
    std::vector<std::shared_ptr<Attachment>> dropped;
    std::erase_if(clients_, [&](const auto& item) {
        const bool mine = item.first.first == &pool;
        if (mine) {
            dropped.push_back(item.second);
        }
        return mine;
    });
    for (const auto& client : dropped) {
        client->abandon();
    }
}

void Supervisor::forget(const Attachment& client) {
    clients_.erase({client.pool().get(), raw(client.id())});
}

void Supervisor::keep_pidfd(const Attachment& client, int pidfd) {
    store_.keep_client(client.stored_name(), pidfd);
}

void Supervisor::forget_pidfd(const Attachment& client) {
    store_.forget_client(client.stored_name());
}

}  // namespace mempoold
