// The daemon as a whole: its pools, its socket, its timers and signals.
//
// Built and run by main(). Holds no policy of its own: it starts what the configuration names, and
// hands each event to whose job it is.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <string>

#include "daemon/base/worker.hpp"
#include "daemon/config/config.hpp"
#include "daemon/control/listener.hpp"
#include "daemon/control/requests.hpp"
#include "daemon/control/server.hpp"
#include "daemon/storage/fd_store.hpp"

namespace mempoold {

class Daemon {
public:
    /// `line` is what `config` was loaded by: a reload loads it again.
    Daemon(CommandLine line, Config config);
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon() = default;

    /// Serves until a signal ends it. Throws std::runtime_error if it can't begin: no socket, or
    /// not one pool that can be served.
    void run();

private:
    void start_pools();
    void drop_what_nobody_serves();
    bool start_pool(const PoolConfig& config);
    [[nodiscard]] std::string describe_pools() const;
    /// Takes over what the configuration says about peers.
    void apply_limits();
    void await_signal();
    void reload();
    void stop();
    void tick_fast();
    void tick_second();
    void tick_watchdog();
    void drop_faulted();

    CommandLine line_;
    Config config_;
    boost::asio::io_context io_{1};
    FdStore store_;  // outlives the pools
    Worker worker_{io_};
    Service service_{io_, worker_};
    std::optional<Listener> listener_;
    std::optional<Server> server_;
    boost::asio::signal_set signals_{io_};
    boost::asio::steady_timer fast_timer_{io_};
    boost::asio::steady_timer second_timer_{io_};
    boost::asio::steady_timer watchdog_timer_{io_};
};

}  // namespace mempoold
