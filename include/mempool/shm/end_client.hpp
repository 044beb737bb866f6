#pragma once
#include "mempool/shm/pool.hpp"
namespace mempool::shm {
struct EndedLanes { std::uint32_t magazines = 0; std::uint64_t slots = 0; std::uint32_t busy = 0; };
inline EndedLanes shut_out(const Pool&, ClientId) { return {}; }
template <typename Erase> std::uint64_t take_from_ended(const Pool&, ClientId, Erase&&) { return 0; }
}
