#include "daemon/storage/fd_store.hpp"

#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/base/notify.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
using shm::UniqueFd;

constexpr std::string_view kPrefix = "mempool.";

std::string stored_name(std::string_view pool, std::uint32_t number) {
    return shm::object_name(pool, number).substr(1);
}

// Pool and number of a segment's name; nullopt if it is none.
std::optional<std::pair<std::string, std::uint32_t>> parse_name(std::string_view name) {
    if (!name.starts_with(kPrefix)) {
        return std::nullopt;
    }
    const std::string_view rest = name.substr(kPrefix.size());
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    const std::string pool(rest.substr(0, dot));
    std::uint32_t number = 0;
    if (dot < rest.size()) {
        std::from_chars(rest.data() + dot + 1, rest.data() + rest.size(), number);
    }
    if (!shm::check_pool_name(pool).empty() || stored_name(pool, number) != name) {
        return std::nullopt;
    }
    return std::pair(pool, number);
}

constexpr std::string_view kClientPrefix = "c.";
/// The names of all that is stored come back in one variable, which the kernel bounds at 128 KiB:
/// beyond that the next daemon could not be started at all. Some of it is left to segments, and
/// some of the unit's FileDescriptorStoreMax=4096.
constexpr std::size_t kMostNameBytes = 120'000;
constexpr std::size_t kMostClientNameBytes = 80'000;
constexpr std::size_t kMostClients = 3072;

std::string client_name(const ClientName& client) {
    return fmt::format("{}{:016x}.{}.{}", kClientPrefix, client.pool_key, client.id, client.epoch);
}

// nullopt if it is no client's name.
std::optional<ClientName> parse_client(std::string_view name) {
    ClientName client;
    if (!name.starts_with(kClientPrefix)) {
        return std::nullopt;
    }
    std::string_view rest = name.substr(kClientPrefix.size());
    const auto next = [&rest](auto& number, int base) {
        const std::size_t dot = std::min(rest.find('.'), rest.size());
        std::from_chars(rest.data(), rest.data() + dot, number, base);
        rest.remove_prefix(std::min(dot + 1, rest.size()));
    };
    next(client.pool_key, 16);
    next(client.id, 10);
    next(client.epoch, 10);
    return client_name(client) == name ? std::optional(client) : std::nullopt;
}

}  // namespace

bool has_service_manager() {
    const char* socket = std::getenv("NOTIFY_SOCKET");
    return socket != nullptr && *socket != '\0';
}

FdStore::Descriptors take_passed_descriptors() {
    char** names = nullptr;
    const int count = ::sd_listen_fds_with_names(1, &names);
    FdStore::Descriptors passed;
    for (int k = 0; k < count; ++k) {
        passed.emplace_back(names[k], UniqueFd{SD_LISTEN_FDS_START + k});
        std::free(names[k]);  // NOLINT(cppcoreguidelines-no-malloc): libsystemd's allocation
    }
    std::free(static_cast<void*>(names));  // NOLINT(cppcoreguidelines-no-malloc)
    return passed;
}

FdStore::FdStore(Descriptors& passed) {
    for (auto& [name, fd] : passed) {
        const auto segment = parse_name(name);
        const auto client = parse_client(name);
        if ((segment || client) && kept_.insert(name).second) {
            name_bytes_ += name.size() + 1;
            clients_kept_ += client ? 1U : 0U;
        }
        if (segment) {
            inherited_[*segment] = std::move(fd);
        } else if (client) {
            inherited_clients_[*client] = std::move(fd);
        }
    }
    std::erase_if(passed, [](const auto& item) { return !item.second; });
}

// FDPOLL=0: a memfd never hangs up; a pidfd becomes readable when its process ends, and systemd
// would drop it just then.
int FdStore::store(const std::string& name, int fd, std::size_t most_bytes) {
    if (kept_.contains(name)) {
        return 0;  // it came from there
    }
    if (name_bytes_ + name.size() + 1 > most_bytes) {
        return ENOSPC;
    }
    const std::string message = "FDSTORE=1\nFDPOLL=0\nFDNAME=" + name;
    if (const int error = notify_manager(message, fd); error != 0) {
        return error;
    }
    kept_.insert(name);
    name_bytes_ += name.size() + 1;
    return 0;
}

bool FdStore::discard(const std::string& name) noexcept {
    if (kept_.erase(name) == 0) {
        return false;
    }
    name_bytes_ -= name.size() + 1;
    try {
        // What cannot be told now the next daemon finds, knows by its epoch, and lets go of.
        notify_manager("FDSTOREREMOVE=1\nFDNAME=" + name);
    } catch (const std::exception& e) {
        log_warning("cannot tell the service manager to let go of {}: {}", name, e.what());
    }
    return true;
}

std::map<std::uint32_t, UniqueFd> FdStore::take(std::string_view pool) {
    std::map<std::uint32_t, UniqueFd> taken;
    for (auto& [key, fd] : inherited_) {
        if (key.first == pool) {
            taken[key.second] = std::move(fd);
        }
    }
    std::erase_if(inherited_, [&](const auto& item) { return item.first.first == pool; });
    return taken;
}

void FdStore::put_back(std::string_view pool, std::uint32_t number, UniqueFd fd) noexcept {
    try {
        inherited_[{std::string(pool), number}] = std::move(fd);
    } catch (const std::exception& e) {
        log_error("pool '{}': segment {} is lost to it until mempoold starts again: {}", pool,
                  number, e.what());
    }
}

std::vector<std::string> FdStore::left() const {
    std::vector<std::string> pools;
    for (const auto& [key, fd] : inherited_) {
        if (pools.empty() || pools.back() != key.first) {
            pools.push_back(key.first);
        }
    }
    return pools;
}

void FdStore::drop(std::string_view pool) {
    for (const auto& [number, fd] : take(pool)) {
        forget(pool, number);
    }
}

void FdStore::keep(std::string_view pool, std::uint32_t number, int fd) {
    if (!has_service_manager()) {
        return;
    }
    const std::string name = stored_name(pool, number);
    discard(name);  // another pool's of that name
    if (const int error = store(name, fd, kMostNameBytes); error != 0) {
        fail(error, "cannot give " + name + " to the service manager to keep it over a restart");
    }
}

void FdStore::forget(std::string_view pool, std::uint32_t number) noexcept {
    discard(stored_name(pool, number));
}

UniqueFd FdStore::take_client(const ClientName& client) {
    const auto found = inherited_clients_.find(client);
    if (found == inherited_clients_.end()) {
        return {};
    }
    UniqueFd pidfd = std::move(found->second);
    inherited_clients_.erase(found);
    return pidfd;
}

std::map<ClientName, UniqueFd> FdStore::copy_clients(std::uint64_t pool_key) const {
    std::map<ClientName, UniqueFd> copies;
    for (auto at = inherited_clients_.lower_bound({pool_key, 0, 0});
         at != inherited_clients_.end() && at->first.pool_key == pool_key; ++at) {
        UniqueFd copy{::fcntl(at->second.get(), F_DUPFD_CLOEXEC, 3)};
        if (!copy) {
            break;
        }
        copies.emplace(at->first, std::move(copy));
    }
    return copies;
}

void FdStore::drop_clients() noexcept {
    for (const auto& [client, pidfd] : std::exchange(inherited_clients_, {})) {
        forget_client(client);
    }
}

void FdStore::keep_client(const ClientName& client, int pidfd) noexcept {
    if (!has_service_manager()) {
        return;
    }
    try {
        const std::string name = client_name(client);
        const bool known = kept_.contains(name);
        const int error = known || clients_kept_ < kMostClients
                              ? store(name, pidfd, kMostClientNameBytes)
                              : ENOSPC;
        clients_kept_ += error == 0 && !known ? 1U : 0U;
        if (error != 0 && !std::exchange(complained_, true)) {
            log_warning(
                "cannot give clients' pidfds to the service manager: {}. Clients whose processes a "
                "restarted mempoold cannot see will count as alive",
                std::generic_category().message(error));
        }
    } catch (const std::exception& e) {
        log_warning("cannot keep a client's pidfd: {}", e.what());
    }
}

void FdStore::forget_client(const ClientName& client) noexcept {
    clients_kept_ -= discard(client_name(client)) ? 1U : 0U;
}

}  // namespace mempoold
