// How a pool's shared memory comes to be served: found and taken over, set aside, or made anew.
//
// Called by Daemon at start and at a reload. Deletes nothing that anybody could have used.
#pragma once

#include <cstdint>
#include <memory>

#include "daemon/config/pool_config.hpp"
#include "daemon/storage/storage.hpp"

namespace mempoold {

/// The storage of the pool that `config` describes; logs what it did. `now` is in seconds since the
/// epoch; `store` has what a former daemon left without a name, `runtime` the index of its names:
/// both must outlive the storage.
/// Throws std::system_error if the pool can't be served: served by another daemon, no memory, an
/// object in the way that the system won't let us rename.
std::unique_ptr<Storage> start_storage(const PoolConfig& config, std::uint64_t now,
                                       FdStore* store = nullptr,
                                       RuntimeDirectory* runtime = nullptr);

}  // namespace mempoold
