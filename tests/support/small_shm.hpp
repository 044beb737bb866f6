// A small /dev/shm of a test's own, and one that is full.
//
// Needs root: a mount namespace. Used by tests of a single thread, before they start processes that
// shall see it.
#pragma once

#include <mempool/shm/words/unique_fd.hpp>

namespace mempool_test {

/// A /dev/shm of 16 MiB for this process and the children it starts, while the object lives.
class SmallShm {
public:
    SmallShm();
    SmallShm(const SmallShm&) = delete;
    SmallShm& operator=(const SmallShm&) = delete;
    ~SmallShm();

    /// False: not permitted here, and /dev/shm is everybody's.
    [[nodiscard]] bool made() const { return made_; }

private:
    mempool::shm::UniqueFd before_;
    bool made_;
};

/// Takes all that is free in /dev/shm, while it lives. In a SmallShm only.
class ShmFiller {
public:
    ShmFiller();
    ShmFiller(const ShmFiller&) = delete;
    ShmFiller& operator=(const ShmFiller&) = delete;
    ~ShmFiller();
};

}  // namespace mempool_test
