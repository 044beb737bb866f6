#include "daemon/storage/allocation.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

namespace mempoold {

namespace {
/// 5 ms where memory is to be had.
constexpr std::uint64_t kPieceBytes = std::uint64_t{16} << 20U;
/// What the daemon itself may still need, and the kernel's charging in batches.
constexpr std::uint64_t kSpareBytes = std::uint64_t{2} << 20U;
}  // namespace

std::optional<MemoryRoom> lacks_room(const MemoryLimit& limit, std::uint64_t bytes) {
    auto room = limit.room();
    if (room && room->bytes < bytes + kSpareBytes) {
        return room;
    }
    return std::nullopt;
}

bool Allocation::step() noexcept {
    if (error_ != 0 || part_ == wanted_.size()) {
        return true;
    }
    const FilePart& part = wanted_[part_];
    const std::uint64_t bytes = std::min(part.range.bytes - done_, kPieceBytes);
    try {
        room_ = lacks_room(limit_, bytes);
    } catch (const std::bad_alloc&) {
        error_ = ENOMEM;
        return true;
    }
    error_ = room_ ? ENOSPC : allocate(part.fd, {part.range.offset + done_, bytes});
    done_ += bytes;
    if (done_ >= part.range.bytes) {
        ++part_;
        done_ = 0;
    }
    return error_ != 0 || part_ == wanted_.size();
}

}  // namespace mempoold
