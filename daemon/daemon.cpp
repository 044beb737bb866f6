#include "daemon/daemon.hpp"

#include <sys/resource.h>

#include <boost/system/error_code.hpp>
#include <chrono>
#include <csignal>
#include <exception>
#include <iterator>
#include <stdexcept>
#include <utility>
#include <vector>

#include "daemon/base/notify.hpp"
#include "daemon/storage/fault_guard.hpp"
#include "daemon/storage/pool_start.hpp"

namespace mempoold {

namespace {

constexpr std::chrono::milliseconds kGrowthTick{100};
constexpr std::chrono::seconds kSecond{1};

void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

// Calls `tick` each time `timer` expires, `period` apart. Work that takes longer skips a beat.
template <typename Period, typename Tick>
void repeat(boost::asio::steady_timer& timer, Period period, Tick tick) {
    timer.expires_after(period);
    timer.async_wait([&timer, period, tick](const boost::system::error_code& error) {
        if (!error) {
            tick();
            repeat(timer, period, tick);
        }
    });
}

}  // namespace

Daemon::Daemon(CommandLine line, Config config)
    : line_(std::move(line)), config_(std::move(config)) {
    apply_limits();
    service_.started_at = epoch_now();
}

void Daemon::apply_limits() {
    service_.admin_group = config_.admin_gid;
    service_.max_connections_per_user = config_.max_connections_per_user;
}

void Daemon::run() {
    ::signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    install_fault_handler();
    // From here on: a SIGTERM while pools are being made ends the daemon in order, once they are.
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
        signals_.add(signal);
    }
    await_signal();
    FdStore::Descriptors passed = take_passed_descriptors();
    store_ = FdStore(passed);
    listener_.emplace(config_.socket, std::move(passed));
    start_pools();
    server_.emplace(io_, service_, listener_->socket());
    server_->start();
    repeat(fast_timer_, kGrowthTick, [this] { tick_fast(); });
    repeat(second_timer_, kSecond, [this] { tick_second(); });
    if (const auto period = watchdog_period(); period.count() > 0) {
        repeat(watchdog_timer_, period / 2, [] { notify_watchdog(); });
    }
    log_always(fmt::format("mempoold {} ready: socket {}, pools {}", MEMPOOLD_VERSION,
                           listener_->path(), describe_pools()));
    notify_ready("serving " + describe_pools());
    io_.run();
}

void Daemon::start_pools() {
    if (config_.built_in_pool) {
        log_info("no pool is configured; serving one named '{}' (see --pool and mempoold.conf)",
                 config_.pools.front().name);
    }
    for (const PoolConfig& pool : config_.pools) {
        start_pool(pool);
    }
    if (service_.pools.empty()) {
        throw std::runtime_error("not one pool can be served; the reasons stand above");
    }
    drop_what_nobody_serves();
}

// Nobody could come to such a pool any more, and its memory would stay taken.
void Daemon::drop_what_nobody_serves() {
    for (const std::string& name : store_.left()) {
        log_warning(
            "pool '{}' was one of memfds and is not configured as such any more: it is given up; "
            "clients that are attached keep it among themselves",
            name);
        store_.drop(name);
    }
}

bool Daemon::start_pool(const PoolConfig& config) {
    try {
        auto pool = std::make_shared<ServedPool>(
            config, start_storage(config, epoch_now(), &store_), worker_);
        service_.supervisor.adopt(pool);
        pool->begin_service();
        service_.pools.emplace(config.name, std::move(pool));
        return true;
    } catch (const std::exception& e) {
        log_error("pool '{}' is not served: {}", config.name, e.what());
        return false;
    }
}

std::string Daemon::describe_pools() const {
    std::string pools;
    for (const auto& [name, pool] : service_.pools) {
        fmt::format_to(std::back_inserter(pools), "{}{} ({} slots x {})", pools.empty() ? "" : ", ",
                       name, pool->storage().slots(),
                       format_size(pool->view().geometry().shape.slot_size));
    }
    return pools;
}

void Daemon::await_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int signal) {
        if (error) {
            return;
        }
        if (signal == SIGHUP) {
            reload();
            await_signal();
        } else {
            stop();
        }
    });
}

void Daemon::reload() {
    notify_reloading();
    try {
        Config next = load_config(line_);
        for (const PoolConfig& config : next.pools) {
            const auto found = service_.pools.find(config.name);
            if (found == service_.pools.end()) {
                start_pool(config);
            } else {
                found->second->reconfigure(config);
            }
        }
        for (const auto& [name, pool] : service_.pools) {
            const auto same = [&name = name](const PoolConfig& c) { return c.name == name; };
            if (std::none_of(next.pools.begin(), next.pools.end(), same)) {
                log_warning(
                    "pool '{}' is not configured any more; it is served until mempoold ends", name);
            }
        }
        if (next.socket != config_.socket) {
            log_warning("the socket stays {} until mempoold starts anew", listener_->path());
        }
        config_ = std::move(next);
        apply_limits();
        set_log_level(config_.log_level);
        log_info("configuration reloaded; pools {}", describe_pools());
    } catch (const std::exception& e) {
        log_error("configuration not reloaded, the former one stays: {}", e.what());
    }
    notify_ready("serving " + describe_pools());
}

void Daemon::stop() {
    notify_stopping();
    log_info("stopping; the pools {}", config_.remove_on_exit ? "go" : "stay");
    fast_timer_.cancel();
    second_timer_.cancel();
    watchdog_timer_.cancel();
    worker_.stop();  // first: what it was at is cut off, and left to the next daemon
    for (const auto& [name, pool] : service_.pools) {
        service_.supervisor.drop(*pool);
        pool->end_service();
        if (config_.remove_on_exit) {
            pool->storage().remove_objects();
        }
    }
    server_->stop();
    listener_.reset();
    io_.stop();
}

void Daemon::tick_fast() {
    const auto now = ServedPool::Clock::now();
    for (const auto& [name, pool] : service_.pools) {
        pool->consider_growth(now);
    }
    drop_faulted();
}

void Daemon::tick_second() {
    for (const auto& [name, pool] : service_.pools) {
        pool->tick_second();
    }
    service_.supervisor.recheck();
    drop_faulted();
}

void Daemon::drop_faulted() {
    std::erase_if(service_.pools, [this](const auto& item) {
        const auto& pool = item.second;
        if (!pool->storage().faulted()) {
            return false;
        }
        log_error(
            "pool '{}': somebody truncated its file; it is not served any more. A reload (SIGHUP) "
            "sets it aside and makes it anew",
            item.first);
        service_.supervisor.drop(*pool);
        pool->give_up();
        return true;
    });
}

}  // namespace mempoold
