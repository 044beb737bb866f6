// A segment in the making, be it a pool's first or one more: its object is there, and nobody has
// been told of it yet.
//
// Made by Storage::begin() or begin_segment(), ended by Storage::announce(), all on the loop. What
// lies between, memory for all that it needs and the words of its slots, can be done on the
// worker's thread: nobody looks at it before the announcement. The pool's Storage must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "daemon/storage/allocation.hpp"
#include "daemon/storage/storage.hpp"

namespace mempoold {

class NewSegment {
public:
    NewSegment(const NewSegment&) = delete;
    NewSegment& operator=(const NewSegment&) = delete;
    /// Unless it was announced, removes its object and gives all its memory back.
    ~NewSegment();

    /// Does a piece of what is to be done, a few milliseconds' work; true once no more is, or none
    /// can be: announce() tells which.
    bool step() noexcept;

    [[nodiscard]] std::uint32_t slots() const noexcept { return segment_.entry.slot_count; }

private:
    friend class Storage;
    NewSegment(std::shared_ptr<Backing> backing, std::uint32_t number, StoredSegment segment,
               UniqueFd first, const mempool::shm::Pool& view, std::function<void()> write_header);

    std::shared_ptr<Backing> backing_;
    std::uint32_t number_;
    StoredSegment segment_;
    // The daemon's own description of segment 0's file; its lock lasts as long as either.
    UniqueFd first_;
    mempool::shm::Pool view_;
    Allocation allocation_;
    std::function<void()> write_header_;  // of a pool that is made, once there is memory for it
    std::uint32_t filled_ = 0;            // of its magazines
    bool announced_ = false;
};

/// A pool in the making. Its first segment goes before its storage does.
struct NewPool {
    std::unique_ptr<Storage> storage;
    std::unique_ptr<NewSegment> first;
};

}  // namespace mempoold
