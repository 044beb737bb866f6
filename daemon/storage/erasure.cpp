#include "daemon/storage/erasure.hpp"

#include <algorithm>

namespace mempoold {

namespace {

namespace shm = mempool::shm;

/// 5 ms where memory is fast.
constexpr std::uint64_t kErasedPerStep = std::uint64_t{16} << 20U;

}  // namespace

Erasure::Erasure(const Storage& storage, const std::vector<shm::HeldSlot>& slots) {
    const std::uint64_t size = storage.geometry().shape.slot_size;
    const std::uint64_t stride = storage.geometry().slot_stride;
    for (const shm::HeldSlot& slot : slots) {
        const Storage::SlotBytes at = storage.locate(slot.index);
        if (at.fd < 0) {
            continue;
        }
        // Neighbours in one go: what lies between two slots belongs to nobody.
        if (!runs_.empty() && runs_.back().fd == at.fd &&
            runs_.back().offset + runs_.back().bytes + (stride - size) == at.offset) {
            runs_.back().bytes += stride;
        } else {
            runs_.push_back({at.fd, at.offset, size});
        }
    }
}

bool Erasure::step() noexcept {
    std::uint64_t left = kErasedPerStep;
    while (next_ < runs_.size() && left != 0) {
        Run& run = runs_[next_];
        const std::uint64_t bytes = std::min(run.bytes, left);
        if (const int error = write_zeros(run.fd, bytes, run.offset); error != 0) {
            error_ = error;
        }
        run.offset += bytes;
        run.bytes -= bytes;
        left -= bytes;
        next_ += run.bytes == 0 ? 1U : 0U;
    }
    return next_ == runs_.size();
}

}  // namespace mempoold
