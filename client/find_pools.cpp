#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

#include "connection.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/names.hpp"

namespace mempool {
namespace {

constexpr std::uint64_t kMostPools = 65536;
constexpr std::string_view kObjectPrefix = "mempool.";

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
        // A daemon that is down serves none; what lies in /dev/shm is still of interest.
    }
}

void add_present(Found& found) {
    std::error_code error;
    for (std::filesystem::directory_iterator at("/dev/shm", error), end; !error && at != end;
         at.increment(error)) {
        const std::string file = at->path().filename().string();
        const std::string_view name =
            std::string_view(file).substr(std::min(kObjectPrefix.size(), file.size()));
        if (file.starts_with(kObjectPrefix) && shm::check_pool_name(name).empty()) {
            entry_of(found, name).present = true;
        }
    }
}

}  // namespace

std::vector<FoundPool> find_pools(const AttachOptions& options) {
    Found found;
    add_served(found, options);
    add_present(found);
    std::vector<FoundPool> pools;
    pools.reserve(found.size());
    for (const auto& [name, pool] : found) {
        pools.push_back(pool);
    }
    return pools;
}

}  // namespace mempool
