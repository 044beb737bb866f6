// Overwriting the contents of slots with zeros, a piece at a time.
//
// Made by ServedPool on the loop, for slots in the daemon's hands; its steps run on the worker's
// thread. Writes through descriptors that stay the pool's: no access of it can fault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "daemon/storage/storage.hpp"
#include "mempool/shm/recovery/reclaim.hpp"

namespace mempoold {

class Erasure {
public:
    Erasure(const Storage& storage, const std::vector<mempool::shm::HeldSlot>& slots);

    /// Overwrites one piece more, a few milliseconds' work; true if that was the last.
    bool step() noexcept;
    /// Of the last write that failed, errno; 0 if none did.
    [[nodiscard]] int error() const noexcept { return error_; }

private:
    struct Run {
        int fd = -1;
        std::uint64_t offset = 0;
        std::uint64_t bytes = 0;
    };
    std::vector<Run> runs_;
    std::size_t next_ = 0;
    int error_ = 0;
};

}  // namespace mempoold
