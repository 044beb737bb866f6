#include "daemon/daemon.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <csignal>
#include <exception>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "daemon/base/notify.hpp"
#include "daemon/base/thread.hpp"
#include "daemon/storage/fault_guard.hpp"
#include "daemon/supervision/former_clients.hpp"

namespace mempoold {

namespace {

constexpr std::chrono::milliseconds kGrowthTick{100};
constexpr std::chrono::seconds kSecond{1};

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
    loader_->daemon = this;
}

Daemon::~Daemon() {
    const std::lock_guard lock(loader_->mutex);
    loader_->daemon = nullptr;
}

void Daemon::apply_limits() {
    service_.admin_group = config_.admin_gid;
    service_.max_connections_per_user = config_.max_connections_per_user;
}

void Daemon::run() {
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
    server_.emplace(io_, service_, listener_->socket(), [this] { look_often(); });
    server_->start();
    look_often();
    repeat(second_timer_, kSecond, [this] { tick_second(); });
    if (const auto period = watchdog_period(); period.count() > 0) {
        repeat(watchdog_timer_, period / 2, [] { notify_watchdog(); });
    }
    log_always(fmt::format("mempoold {} ready: socket {}, pools {}", MEMPOOLD_VERSION,
                           listener_->path(), describe_pools()));
    notify_ready(describe_state());
    io_.run();
}

void Daemon::start_pools() {
    if (config_.built_in_pool) {
        log_info("no pool is configured; serving one named '{}' (see --pool and mempoold.conf)",
                 config_.pools.front().name);
    }
    for (const std::string& fault : config_.faults) {
        log_error("a pool is left out: {}", fault);
    }
    for (const PoolConfig& pool : config_.pools) {
        start_pool(pool);
    }
    if (service_.pools.empty() && !any_to_try_again()) {
        throw std::runtime_error("no pool could be served; see the errors above");
    }
    drop_what_nobody_serves();
    drop_clients();
}

bool Daemon::any_to_try_again() const {
    const std::vector<std::string> left = store_.left();
    return std::any_of(not_served_.begin(), not_served_.end(), [&left](const auto& item) {
        return item.second.in_use || std::find(left.begin(), left.end(), item.first) != left.end();
    });
}

void Daemon::drop_clients() noexcept {
    if (not_served_.empty()) {
        store_.drop_clients();
    }
}

PoolStart::FormerClients Daemon::former_clients() const {
    return [this](UniqueFd file) { return look_for_former_clients(std::move(file), store_); };
}

// Nobody could come to such a pool any more, and its memory would stay taken.
void Daemon::drop_what_nobody_serves() {
    if (!config_.faults.empty()) {
        return;  // a file that can't be read may be of such a pool: a reload will tell
    }
    for (const std::string& name : store_.left()) {
        if (not_served_.contains(name)) {
            continue;  // left to its clients
        }
        if (service_.pools.contains(name)) {
            log_warning("pool '{}' is served without what else the service manager kept for it",
                        name);
        } else {
            log_warning(
                "pool '{}' was one of memfds and is not configured as such any more: it is given "
                "up; clients that are attached keep it among themselves",
                name);
        }
        store_.drop(name);
    }
}

void Daemon::start_pool(const PoolConfig& config) {
    try {
        PoolStart start(config, epoch_now(), &store_, &listener_->runtime(), former_clients());
        do {
            while (!start.step()) {
                notify_busy();
            }
        } while (start.proceed());
        put_in_service(start);
    } catch (const std::exception& e) {
        pool_failed(config.name, e);
    }
}

void Daemon::start_pool_later(const PoolConfig& config) {
    try {
        const auto start = std::make_shared<PoolStart>(config, epoch_now(), &store_,
                                                       &listener_->runtime(), former_clients());
        carry_on(start);
        ++starting_;
    } catch (const std::exception& e) {
        pool_failed(config.name, e);
    }
}

void Daemon::carry_on(const std::shared_ptr<PoolStart>& start) {
    worker_.submit_steps([start] { return start->step(); },
                         [this, start] {
                             try {
                                 if (start->proceed()) {
                                     carry_on(start);
                                     return;
                                 }
                                 put_in_service(*start);
                             } catch (const std::exception& e) {
                                 pool_failed(start->config().name, e);
                             }
                             if (--starting_ == 0) {
                                 applied();
                             }
                         });
}

void Daemon::put_in_service(PoolStart& start) {
    const PoolConfig& config = start.config();
    const bool is_new = start.is_new();
    auto pool = std::make_shared<ServedPool>(config, start.finish(), worker_);
    try {
        service_.supervisor.adopt(pool);
        pool->begin_service(is_new);
    } catch (...) {
        service_.supervisor.drop(*pool);  // else they keep it, and its lock, from the next try
        throw;
    }
    service_.pools.emplace(config.name, std::move(pool));
    not_served_.erase(config.name);
}

void Daemon::pool_failed(const std::string& name, const std::exception& why) {
    log_error("pool '{}' is not served: {}", name, why.what());
    not_served_[name] = {.why = why.what(), .in_use = dynamic_cast<const InUse*>(&why) != nullptr};
}

std::string Daemon::describe_state() const {
    std::string state = reload_fault_.empty() ? "" : "reload failed: " + reload_fault_ + "; ";
    state += place_fault_.empty() ? "" : place_fault_ + "; ";
    for (const auto& [name, fault] : not_served_) {
        state += fmt::format("NOT SERVED: '{}': {}; ", name, fault.why);
    }
    for (const std::string& fault : config_.faults) {
        state += fmt::format("LEFT OUT: {}; ", fault);
    }
    return state + "serving " + describe_pools();
}

std::string Daemon::describe_pools() const {
    std::string pools;
    for (const auto& [name, pool] : service_.pools) {
        fmt::format_to(std::back_inserter(pools), "{}{} ({} slots x {})", pools.empty() ? "" : ", ",
                       name, pool->storage().slots(),
                       format_size(pool->view().geometry().shape.slot_size));
    }
    return pools.empty() ? "none" : pools;
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
    if (std::exchange(loading_, true)) {
        load_again_ = true;
        return;
    }
    notify_reloading();
    const auto load = [loader = loader_, line = line_] {
        std::optional<Config> next;
        std::string fault;
        try {
            next = load_config(line);
            fault = join_faults(*next);
        } catch (const std::exception& e) {
            fault = e.what();
        }
        const std::lock_guard lock(loader->mutex);
        if (Daemon* daemon = loader->daemon) {
            boost::asio::post(daemon->io_, [daemon, next = std::move(next), fault]() mutable {
                if (fault.empty()) {
                    daemon->apply(std::move(*next));
                } else {
                    daemon->reload_failed(fault);
                }
            });
        }
    };
    try {
        start_thread(load);
    } catch (const std::system_error& e) {
        reload_failed(fmt::format("cannot start a thread: {}", e.what()));
    }
}

void Daemon::apply(Config next) {
    for (const PoolConfig& config : next.pools) {
        const auto found = service_.pools.find(config.name);
        if (found == service_.pools.end()) {
            start_pool_later(config);
        } else {
            found->second->reconfigure(config);
        }
    }
    const auto configured = [&](const auto& item) {
        return std::any_of(next.pools.begin(), next.pools.end(),
                           [&](const PoolConfig& c) { return c.name == item.first; });
    };
    for (const auto& item : service_.pools) {
        if (!configured(item)) {
            log_warning("pool '{}' is not configured any more; it is served until mempoold ends",
                        item.first);
        }
    }
    std::erase_if(not_served_, [&](const auto& item) { return !configured(item); });
    if (next.socket != config_.socket) {
        log_warning("the socket stays {} until mempoold starts again", listener_->path());
    }
    config_ = std::move(next);
    drop_what_nobody_serves();
    apply_limits();
    set_log_level(config_.log_level);
    reload_fault_.clear();
    if (starting_ == 0) {
        applied();
    }
}

void Daemon::applied() {
    drop_clients();
    log_info("configuration reloaded; pools {}", describe_pools());
    reload_done();
}

void Daemon::reload_failed(const std::string& why) {
    log_error("configuration not reloaded, the former one stays: {}", why);
    reload_fault_ = why;
    reload_done();
}

void Daemon::reload_done() {
    notify_ready(describe_state());
    loading_ = false;
    if (std::exchange(load_again_, false)) {
        reload();
    }
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
    if (config_.remove_on_exit) {
        listener_->runtime().remove();
    }
    listener_.reset();
    io_.stop();
}

void Daemon::look_often() {
    if (std::exchange(looking_often_, true)) {
        return;
    }
    fast_timer_.expires_after(kGrowthTick);
    fast_timer_.async_wait([this](const boost::system::error_code& error) {
        looking_often_ = false;
        if (!error) {
            tick_fast();
        }
    });
}

void Daemon::tick_fast() {
    const auto now = ServedPool::Clock::now();
    for (const auto& [name, pool] : service_.pools) {
        pool->consider_growth(now);
        if (!looking_often_ && pool->clients().count() != 0) {
            look_often();
        }
    }
    drop_faulted();
}

void Daemon::mend_places() {
    std::string fault;
    try {
        other_socket_ = listener_->mend() || other_socket_;
        if (other_socket_) {
            server_->listen_at(listener_->socket());
            other_socket_ = false;
        }
    } catch (const std::exception& e) {
        fault = e.what();
    }
    if (fault == place_fault_) {
        return;
    }
    place_fault_ = fault;
    if (!fault.empty()) {
        log_error("{}", fault);
    }
    notify_status(describe_state());
}

void Daemon::tick_second() {
    const auto now = ServedPool::Clock::now();
    mend_places();
    for (const auto& [name, pool] : service_.pools) {
        pool->consider_growth(now);  // what a reload wants, or a growth that failed
        pool->tick_second();
    }
    service_.supervisor.recheck();
    drop_faulted();
    if (starting_ != 0) {
        notify_busy();
    }
}

void Daemon::drop_faulted() {
    const auto dropped = std::erase_if(service_.pools, [this](const auto& item) {
        const auto& pool = item.second;
        if (!pool->storage().faulted()) {
            return false;
        }
        log_error(
            "pool '{}': somebody truncated its file; it is not served any more. A reload (SIGHUP) "
            "sets it aside and makes it anew",
            item.first);
        not_served_[item.first] = {.why = "somebody truncated its file"};
        service_.supervisor.drop(*pool);
        pool->give_up();
        return true;
    });
    if (dropped != 0) {
        notify_status(describe_state());
    }
}

}  // namespace mempoold
