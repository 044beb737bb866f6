// Who uses a pool of the former layout, which this release does not serve.
//
// Asked by PoolStart before such a pool is taken out of the way. Reads what both layouts have in
// common, from the file: maps nothing, changes nothing.
#pragma once

#include <chrono>

#include "daemon/storage/fd_store.hpp"
#include "daemon/storage/pool_start.hpp"

namespace mempoold {

/// For a pool's clients together. All that stands in the pool is somebody else's bytes: neither
/// their number nor a process that makes its maps take long holds up a start for much longer.
constexpr std::chrono::milliseconds kLongestLook{500};

/// Looks for the clients that live, or may live, of the pool whose first segment is `file`. `store`
/// has pidfds of some, and is read at once. Who left, died, or has unmapped the pool does not
/// count; who can't be seen does, who was not looked at within `longest`, and every process of a
/// client that still maps the pool. Throws, at once or as it looks, if the pool can't be read or
/// makes no sense. A call of what is returned takes some milliseconds, or as long as one
/// find_mapping(): it is for the worker once there are others to be served.
PoolStart::Look look_for_former_clients(UniqueFd file, const FdStore& store,
                                        std::chrono::milliseconds longest = kLongestLook);

}  // namespace mempoold
