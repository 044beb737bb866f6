#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

#include "connection.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/words/names.hpp"
#include "metadata.hpp"

namespace mempool {
namespace {

constexpr std::uint64_t kMostPools = 65536;

using Found = std::map<std::string, FoundPool>;

FoundPool& entry_of(Found& found, std::string_view name) {
    FoundPool& pool = found[std::string(name)];
    pool.name = name;
    return pool;
}

/// Adds the pools the daemon serves; none if it does not answer.
void add_served(Found& found, const AttachOptions& options) {
    try {
        detail::Connection link(options);
        link.limit_waits(detail::kLookPatience);
        std::uint64_t pools = 1;
        for (std::uint64_t k = 0; k < pools; ++k) {
            const shm::Reply reply =
                link.call(detail::make_request(shm::RequestKind::kList, {}, k));
            pools = std::min(reply.values[0], kMostPools);
            const std::string_view name = shm::text_of(reply.text);
            if (k < pools && shm::check_pool_name(name).empty()) {
                entry_of(found, name).served = true;
            }
        }
    } catch (const Error&) {
        // A daemon that is down serves none; what it left is still of interest.
    }
}

detail::TrustedIndex index_of(const AttachOptions& options) {
    return detail::read_index(options.socket.empty() ? shm::default_socket_path() : options.socket);
}

void add_present(Found& found, const AttachOptions& options) {
    const detail::TrustedIndex trusted = index_of(options);
    for (const auto& [name, pool] : trusted.index.pools) {
        const auto first = pool.objects.find(0);
        if (pool.finished() && first != pool.objects.end() &&
            detail::stands(name, 0, first->second)) {
            entry_of(found, name).present = true;
        }
    }
}

}  // namespace

std::vector<FoundPool> find_pools(const AttachOptions& options, LookAt at) {
    Found found;
    if (at == LookAt::kDaemon) {
        add_served(found, options);
    }
    add_present(found, options);
    std::vector<FoundPool> pools;
    pools.reserve(found.size());
    for (const auto& [name, pool] : found) {
        pools.push_back(pool);
    }
    return pools;
}

std::vector<SetAside> find_set_aside(const AttachOptions& options) {
    std::vector<SetAside> found;
    for (const shm::AsideNote& note : index_of(options).index.aside) {
        struct stat status {};
        if (note.object.find('/') == std::string::npos &&
            ::lstat(("/dev/shm/" + note.object).c_str(), &status) == 0) {
            found.push_back({'/' + note.object, note.reason});
        }
    }
    return found;
}

}  // namespace mempool
