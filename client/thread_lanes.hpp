// Which lanes this thread has with which clients.
//
// Used by ClientImpl where the lane used last (fast_path.hpp) is not the one wanted. The list's
// destructor gives all lanes back when the thread ends.
#pragma once

#include <cstdint>

#include "mempool/fast_path.hpp"

namespace mempool::detail {

class ClientImpl;

/// This thread's own lane with `client`, claimed at the first call. nullptr if there was none to
/// claim then, or the thread is ending: use the home lane. A claim also gives back the lanes that
/// this thread has with clients whose programs are done with them.
[[nodiscard]] ThreadLane* own_lane(ClientImpl& client) noexcept;

/// Gives the lane that this thread has with the client of that serial back to it, if there is one.
void give_back_lane(std::uint64_t serial) noexcept;

}  // namespace mempool::detail
