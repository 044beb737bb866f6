// Who uses a pool of the former layout, which this release does not serve.
//
// Asked by Daemon before such a pool is taken out of the way. Reads what both layouts have in
// common, from the file: maps nothing, changes nothing.
#pragma once

#include <vector>

#include "daemon/storage/fd_store.hpp"
#include "daemon/storage/pool_start.hpp"

namespace mempoold {

/// The clients that live, or may live, of the pool whose first segment is `file`. None if that is
/// no pool of kFormerLayoutVersion, or can't be read. `store` has pidfds of some. Who left, died,
/// or has unmapped the pool does not count; who can't be seen does, and so does every process of a
/// client that still maps the pool.
std::vector<FormerClient> living_former_clients(int file, const FdStore& store);

}  // namespace mempoold
