#include "daemon/supervision/supervisor.hpp"

#include <algorithm>
#include <boost/system/error_code.hpp>
#include <cerrno>
#include <csignal>
#include <vector>

#include "daemon/base/log.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

/// How many clients one recheck() looks at: reading /proc/PID/maps takes up to a millisecond.
constexpr std::size_t kRechecksPerSecond = 64;

const char* describe(Ending how) {
    switch (how) {
        case Ending::kLeft:
            return "left";
        case Ending::kDied:
            return "died";
        case Ending::kUnmapped:
            return "no longer maps the pool";
        case Ending::kNotServed:
            break;
    }
    return "did not take its reply";
}

enum class Fate : std::uint8_t { kAlive, kGone };

// Whether the process of a record found in shared memory still is the one that attached. In doubt
// it lives: slots kept too long can be seen and freed, slots handed out twice can not.
Fate judge(const ServedPool& pool, shm::ClientId id, const ClientIdentity& client,
           UniqueFd& pidfd) {
    if (client.pid <= 0) {
        return Fate::kGone;
    }
    pidfd = open_pidfd(client.pid);
    // EINVAL, ENOENT: the number is a thread's now, so the process that had it is gone.
    if (!pidfd && (errno == ESRCH || errno == EINVAL || errno == ENOENT)) {
        return Fate::kGone;
    }
    const auto started = start_time(client.pid);
    if (pidfd && has_ended(pidfd.get())) {
        return Fate::kGone;
    }
    if (started && client.start_time != 0) {
        return *started == client.start_time ? Fate::kAlive : Fate::kGone;
    }
    log_warning(
        "pool '{}': cannot read when process {} of client {} started; taking it for the one "
        "that attached",
        pool.name(), client.pid, raw(id));
    return Fate::kAlive;
}

}  // namespace

std::shared_ptr<Attachment> Supervisor::watch(const std::shared_ptr<ServedPool>& pool,
                                              shm::ClientId id, UniqueFd pidfd) {
    auto client = std::make_shared<Attachment>(io_, pool, id);
    if (pidfd) {
        client->process.assign(pidfd.release());
        await_end(client);
    }
    clients_[{pool.get(), raw(id)}] = client;
    return client;
}

void Supervisor::await_end(const std::shared_ptr<Attachment>& client) {
    client->process.async_wait(
        boost::asio::posix::stream_descriptor::wait_read,
        [this, weak = std::weak_ptr(client)](const boost::system::error_code& error) {
            const auto still = weak.lock();
            if (!still || still->ended || error == boost::asio::error::operation_aborted) {
                return;
            }
            if (error || !has_ended(still->process.native_handle())) {
                await_end(still);
                return;
            }
            end(still, Ending::kDied);
        });
}

void Supervisor::adopt(const std::shared_ptr<ServedPool>& pool) {
    std::uint32_t alive = 0;
    for (std::uint32_t number = 1; number < pool->clients().size(); ++number) {
        const shm::ClientId id{number};
        const auto recorded = pool->clients().recorded(id);
        if (!recorded) {
            continue;
        }
        UniqueFd pidfd;
        if (judge(*pool, id, *recorded, pidfd) == Fate::kGone) {
            log_info("pool '{}': client {} (pid {}) died while no daemon was there", pool->name(),
                     number, recorded->pid);
            pool->view().live().deaths.fetch_add(1, std::memory_order_relaxed);
            continue;
        }
        pool->clients().readmit(id, *recorded);
        watch(pool, id, std::move(pidfd));
        ++alive;
    }
    if (alive != 0) {
        log_info("pool '{}': {} clients of the former daemon go on", pool->name(), alive);
    }
}

std::shared_ptr<Attachment> Supervisor::find(const ServedPool& pool, shm::ClientId id) const {
    const auto found = clients_.find({&pool, raw(id)});
    return found == clients_.end() ? nullptr : found->second;
}

void Supervisor::end(const std::shared_ptr<Attachment>& client, Ending how) {
    if (client->ended) {
        return;
    }
    client->ended = true;
    client->process.close();
    clients_.erase({client->pool.get(), raw(client->id)});
    const ClientIdentity identity = client->pool->clients().identity(client->id);
    // A process that has said goodbye and then ended has not died on us.
    const bool leaving = how == Ending::kLeft || client->pool->clients().says_leaving(client->id);
    const bool died = !leaving && how != Ending::kNotServed;
    client->pool->detach(client->id, died, [client, identity, how, died](const auto& taken) {
        log_line(died ? LogLevel::kInfo : LogLevel::kDebug,
                 fmt::format(
                     "pool '{}': client {} (pid {}, {}) {}; {} slots and {} magazines taken back",
                     client->pool->name(), raw(client->id), identity.pid, identity.command,
                     describe(how), taken.slots, taken.magazines));
        if (client->on_end) {
            std::exchange(client->on_end, nullptr)();
        }
    });
}

bool Supervisor::end_if_gone(const std::shared_ptr<Attachment>& client) {
    const ClientIdentity& identity = client->pool->clients().identity(client->id);
    if (client->process.is_open() ? has_ended(client->process.native_handle())
                                  : ::kill(identity.pid, 0) != 0 && errno == ESRCH) {
        end(client, Ending::kDied);
        return true;
    }
    if (!client->connected && client->pool->clients().says_leaving(client->id)) {
        end(client, Ending::kLeft);
        return true;
    }
    const Storage& storage = client->pool->storage();
    if (!client->connected &&
        find_mapping(identity.pid, storage.device(), storage.inode()) == Mapping::kAbsent) {
        end(client, Ending::kUnmapped);
        return true;
    }
    return false;
}

void Supervisor::connection_lost(const std::shared_ptr<Attachment>& client) {
    if (client->ended) {
        return;
    }
    client->connected = false;
    client->on_end = nullptr;
    if (!end_if_gone(client)) {
        log_debug("pool '{}': client {} lost its connection and lives on", client->pool->name(),
                  raw(client->id));
    }
}

std::uint32_t Supervisor::sweep(const ServedPool& pool) {
    std::vector<std::shared_ptr<Attachment>> mine;
    for (const auto& [key, client] : clients_) {
        if (key.first == &pool) {
            mine.push_back(client);
        }
    }
    return static_cast<std::uint32_t>(std::count_if(
        mine.begin(), mine.end(), [this](const auto& client) { return end_if_gone(client); }));
}

void Supervisor::recheck() {
    std::vector<std::shared_ptr<Attachment>> next;
    auto at = clients_.lower_bound(next_recheck_);
    for (std::size_t seen = 0; seen < clients_.size() && next.size() < kRechecksPerSecond; ++seen) {
        at = at == clients_.end() ? clients_.begin() : at;
        if (!at->second->connected || !at->second->process.is_open()) {
            next.push_back(at->second);
        }
        ++at;
    }
    next_recheck_ = at == clients_.end() ? Key{nullptr, 0} : at->first;
    for (const auto& client : next) {
        end_if_gone(client);
    }
}

void Supervisor::drop(const ServedPool& pool) {
    std::erase_if(clients_, [&](const auto& item) {
        if (item.first.first != &pool) {
            return false;
        }
        Attachment& client = *item.second;
        client.ended = true;
        client.process.close();
        if (client.on_end) {
            std::exchange(client.on_end, nullptr)();
        }
        return true;
    });
}

}  // namespace mempoold
