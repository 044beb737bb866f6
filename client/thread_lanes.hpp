// Which lanes this thread has with which clients.
//
// Used by ClientImpl where the lane used last (fast_path.hpp) is not the one wanted. The list's
// destructor gives all lanes back when the thread ends.
#pragma once

#include "mempool/fast_path.hpp"

namespace mempool::detail {

class ClientImpl;

/// This thread's own lane with `client`, claimed at the first call. nullptr if there was none to
/// claim then, or the thread is ending: use the home lane.
[[nodiscard]] ThreadLane* own_lane(ClientImpl& client) noexcept;

}  // namespace mempool::detail
