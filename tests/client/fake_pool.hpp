// A pool in /dev/shm made by the test itself, as the daemon would make it.
//
// Used with FakeDaemon, where a test needs a pool no daemon would make: broken, hidden, truncated.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mempool/shm/words/pool.hpp"
#include "mempool/shm/words/pool_index.hpp"
#include "mempool/shm/words/segment_map.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempool_test {

struct FakePoolOptions {
    std::uint64_t slot_size = 128;
    std::uint32_t slots = 64;
    std::uint32_t max_slots = 0;  ///< 0: as many as slots
    std::uint32_t magazine_capacity = 4;
    std::uint32_t client_count = 8;
    bool erase_on_put = false;
};

/// Owns the pool's objects and removes them when it goes. Not thread-safe.
class FakePool {
public:
    explicit FakePool(const FakePoolOptions& options = {});
    FakePool(const FakePool&) = delete;
    FakePool& operator=(const FakePool&) = delete;
    ~FakePool();

    /// Adds a segment. Where `named` is false only its descriptor leads to it.
    void grow(std::uint32_t slots, bool named = true);
    /// Removes the object's name, so that only a descriptor leads to it.
    void hide();
    /// Cuts segment 0's file to `bytes`.
    void truncate(std::uint64_t bytes) const;

    [[nodiscard]] const std::string& name() const { return name_; }
    /// Name of segment `number`'s object, as shm_open(3) wants it.
    [[nodiscard]] std::string object(std::uint32_t number) const;
    /// What an index says of the pool.
    [[nodiscard]] mempool::shm::IndexedPool indexed() const;
    [[nodiscard]] const mempool::shm::Pool& pool() const { return pool_; }
    /// Descriptor of segment `number`, which stays the pool's; -1 if there is none.
    [[nodiscard]] int segment(std::uint32_t number) const;
    /// Size of segment 0's file.
    [[nodiscard]] std::uint64_t file_bytes() const;
    /// Slots that are free, in lanes too.
    [[nodiscard]] std::uint64_t free_slots() const;
    /// Puts, adopts and shows that were refused, by all lanes together.
    [[nodiscard]] std::uint64_t refused() const;
    /// Lanes owned by clients.
    [[nodiscard]] std::uint32_t lanes_in_use() const;

private:
    [[nodiscard]] mempool::shm::UniqueFd create(std::uint32_t number, std::uint64_t bytes) const;

    std::string name_;
    std::vector<mempool::shm::UniqueFd> segments_;
    std::unique_ptr<mempool::shm::SegmentMap> map_;
    mempool::shm::Pool pool_;
};

}  // namespace mempool_test
