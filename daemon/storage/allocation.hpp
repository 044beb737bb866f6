// Memory for files, a piece at a time: whoever allocates gigabytes can be stopped in between, and
// sees before each piece whether the process's control groups still allow it.
//
// Made by Storage on the loop; its steps may run on the worker's thread. The files stay whoever's
// they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "daemon/storage/memory_limit.hpp"
#include "daemon/storage/shm_object.hpp"

namespace mempoold {

struct FilePart {
    int fd = -1;
    FileRange range;
};

class Allocation {
public:
    explicit Allocation(std::vector<FilePart> wanted) : wanted_(std::move(wanted)) {}

    /// Allocates one piece more, a few milliseconds' work; true if that was the last, or if there
    /// is no more to be had: see error().
    bool step() noexcept;

    /// 0 or errno: ENOSPC too where a control group is at its limit, which is room() then.
    [[nodiscard]] int error() const noexcept { return error_; }
    [[nodiscard]] const std::optional<MemoryRoom>& room() const noexcept { return room_; }

private:
    std::vector<FilePart> wanted_;
    MemoryLimit limit_;
    std::size_t part_ = 0;
    std::uint64_t done_ = 0;  // of that part, in bytes
    int error_ = 0;
    std::optional<MemoryRoom> room_;
};

/// The room that is too small for `bytes` more, with what the daemon needs to go on; else nullopt.
std::optional<MemoryRoom> lacks_room(const MemoryLimit& limit, std::uint64_t bytes);

}  // namespace mempoold
