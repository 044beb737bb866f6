// The daemon as a whole: its pools, its socket, its timers and signals.
//
// Built and run by main(). Holds no policy of its own: it starts what the configuration names, and
// hands each event to whose job it is.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/base/worker.hpp"
#include "daemon/config/config.hpp"
#include "daemon/control/listener.hpp"
#include "daemon/control/requests.hpp"
#include "daemon/control/server.hpp"
#include "daemon/storage/fd_store.hpp"
#include "daemon/storage/pool_start.hpp"

namespace mempoold {

class Daemon {
public:
    /// `line` is what `config` was loaded by: a reload loads it again.
    Daemon(CommandLine line, Config config);
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon();

    /// Serves until a signal ends it. Throws std::runtime_error if it can't begin: no socket, or
    /// not one pool that can be served.
    void run();

private:
    void start_pools();
    void drop_what_nobody_serves();
    /// Pidfds of clients, unless a pool that is not served yet may need them.
    void drop_clients() noexcept;
    /// Whether a pool that is not served waits for a reload: in use, or kept for us.
    [[nodiscard]] bool any_to_try_again() const;
    /// Who uses a pool of the former layout.
    [[nodiscard]] PoolStart::FormerClients former_clients() const;
    /// At once; a pool that can't be served is noted, and harms no other.
    void start_pool(const PoolConfig& config);
    /// The same, but the worker does what takes long. The last one to be
    /// made, or not, calls applied().
    void start_pool_later(const PoolConfig& config);
    void carry_on(const std::shared_ptr<PoolStart>& start);
    /// `start` has no more steps to do.
    void put_in_service(PoolStart& start);
    void pool_failed(const std::string& name, const std::exception& why);
    [[nodiscard]] std::string describe_pools() const;
    /// For the unit's status: what is not as it should be comes first.
    [[nodiscard]] std::string describe_state() const;
    /// Takes over what the configuration says about peers.
    void apply_limits();
    void await_signal();
    /// Loads the configuration in a thread of its own: names of users may come over a network. Ends
    /// in apply() or reload_failed().
    void reload();
    void apply(Config next);
    void applied();
    void reload_failed(const std::string& why);
    void reload_done();
    void stop();
    /// Looks ten times a second how full the pools are, until nobody is attached: an idle daemon
    /// sleeps.
    void look_often();
    void tick_fast();
    void tick_second();
    void drop_faulted();
    /// Socket and runtime directory, where somebody removed them.
    void mend_places();

    CommandLine line_;
    Config config_;
    // What pools work with goes after them, and so after all that may hold one: what waits in io_,
    // and jobs of the worker.
    FdStore store_;
    boost::asio::io_context io_{1};
    std::optional<Listener> listener_;
    Worker worker_{io_};
    Service service_{io_, worker_, store_};
    std::optional<Server> server_;
    bool other_socket_ = false;  ///< the listener's, which the server has not taken over yet
    boost::asio::signal_set signals_{io_};
    boost::asio::steady_timer fast_timer_{io_};
    bool looking_often_ = false;
    boost::asio::steady_timer second_timer_{io_};
    boost::asio::steady_timer watchdog_timer_{io_};

    struct NotServed {
        std::string why;
        bool in_use = false;  ///< by clients of the former release, to whom it is left
    };
    std::map<std::string, NotServed> not_served_;  ///< by pool
    std::string reload_fault_;                     ///< why the last reload changed nothing
    std::string place_fault_;                      ///< of socket or runtime directory
    /// Shared with the thread that loads the configuration, which may outlive the daemon.
    struct Loader {
        std::mutex mutex;
        Daemon* daemon = nullptr;
    };
    const std::shared_ptr<Loader> loader_ = std::make_shared<Loader>();
    bool loading_ = false;
    bool load_again_ = false;
    std::size_t starting_ = 0;  ///< pools of the reload under way that the worker makes
};

}  // namespace mempoold
