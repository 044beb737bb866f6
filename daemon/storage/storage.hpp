// The shared memory of one pool: its segments, their descriptors, and the daemon's mapping of the
// metadata. Slots are never mapped here. Where segments come from is the Backing's business.
//
// Made by PoolStart, owned by ServedPool. What decides anything (geometry, segment table,
// identity) is a private copy: checked once, when the pool was made or found.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/config/pool_config.hpp"
#include "daemon/storage/backing.hpp"
#include "daemon/storage/fault_guard.hpp"
#include "daemon/storage/shm_object.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"
#include "mempool/shm/words/segment_map.hpp"

namespace mempoold {

/// An object that can't be served as it is: what() says why. It is to be set aside. What the system
/// refuses, and may grant later, is a std::system_error instead.
class Unusable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Whether the header, foreign bytes, says that it is of the release before.
inline bool is_of_former_layout(const mempool::shm::Header& header) noexcept {
    return header.magic == mempool::shm::kMagic &&
           header.layout_version == mempool::shm::kFormerLayoutVersion;
}

/// Tells a pool, by its UUID, from another that has or had its name; never 0.
std::uint64_t pool_key(const std::uint8_t* uuid) noexcept;

class NewSegment;
struct NewPool;
struct MemoryRoom;

struct StoredSegment {
    mempool::shm::SegmentEntry entry{};
    UniqueFd own;       ///< for what the daemon reads and writes: never passed to anybody
    UniqueFd writable;  ///< for clients, who may do as they like with its open file description
};

class Storage {
public:
    /// Begins a new pool: once its first segment has no more steps to do, announce() ends that.
    /// Throws std::system_error, whose text says how much was needed where memory is short; nothing
    /// is left behind then.
    static NewPool begin(const PoolConfig& config, std::uint64_t now,
                         std::shared_ptr<Backing> backing = nullptr);

    /// Takes over the segments that `backing` finds; nullptr if there are none. Throws Unusable, or
    /// std::system_error (EBUSY: another daemon serves it). In both, no backing means one of the
    /// pool's own, without an index.
    static std::unique_ptr<Storage> reattach(const PoolConfig& config,
                                             std::shared_ptr<Backing> backing = nullptr);

    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;
    ~Storage() = default;

    /// Makes the object of one more segment, of `slots` slots; one at a time. Throws
    /// std::system_error.
    std::unique_ptr<NewSegment> begin_segment(std::uint32_t slots, std::uint64_t now);
    /// Announces `made`, which has no more steps to do. Throws std::system_error: what was made of
    /// it goes with `made`.
    void announce(NewSegment& made);

    /// Which bytes of which file slot `i` is. The descriptor stays open as long as this object.
    struct SlotBytes {
        int fd = -1;  ///< -1: there is no such slot
        std::uint64_t offset = 0;
    };
    [[nodiscard]] SlotBytes locate(mempool::shm::SlotIndex i) const noexcept;
    /// Overwrites slot `i` with zeros, by its file: no access that could fault. 0 or errno.
    int erase(mempool::shm::SlotIndex i) const noexcept;

    /// Copies `bytes` of metadata from `offset` on (both multiples of 8, within slots_offset), each
    /// eight bytes at once, as others may write there. Zeros for what has no memory yet.
    void copy_metadata(std::uint64_t offset, std::uint64_t bytes, std::byte* to) const noexcept;

    /// Lets another Storage take over what stands under the pool's name.
    void give_up() noexcept { backing_->give_up(); }

    /// Removes all segments; who maps them keeps them.
    void remove_objects() const;

    /// Removes what a growth that was cut off left.
    void clear_leftovers() const;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const mempool::shm::Pool& view() const noexcept { return view_; }
    [[nodiscard]] const mempool::shm::Geometry& geometry() const noexcept {
        return view_.geometry();
    }
    [[nodiscard]] const std::vector<StoredSegment>& segments() const noexcept { return segments_; }
    [[nodiscard]] std::uint32_t slots() const noexcept;
    [[nodiscard]] std::uint64_t key() const noexcept { return pool_key(uuid_.data()); }
    /// Writes header and segment table anew where they differ from what this daemon made or
    /// checked. What others see is then what it works by.
    struct Restored {
        bool header = false;
        std::uint32_t entries = 0;  ///< of the segment table, their number included
    };
    Restored restore() noexcept;

    /// Looks whether all files are still as long as they must be; faulted() tells. What this daemon
    /// never touches, the slots, is seen to be missing only so.
    void check_sizes() noexcept;

    /// Looks whether the segments still have their names, and mends that where it can be; logs it.
    void check_names() noexcept;
    /// What was missing when last looked; empty if nothing was.
    [[nodiscard]] const std::string& missing_names() const noexcept { return missing_names_; }

    /// Which file segment 0 is.
    [[nodiscard]] dev_t device() const noexcept { return device_; }
    [[nodiscard]] ino_t inode() const noexcept { return inode_; }
    /// Whether the file turned out to be shorter than it was: nothing in the view is to be
    /// believed.
    [[nodiscard]] bool faulted() const noexcept { return truncated_ || guard_->faulted(); }

private:
    Storage(const PoolConfig& config, std::shared_ptr<Backing> backing);

    void open_first(UniqueFd own);
    void map(const mempool::shm::Geometry& geometry);
    void keep_header() noexcept;
    void set_permissions(int fd, std::uint32_t number) const;
    void require_space(std::uint64_t bytes) const;
    [[noreturn]] void no_space(int error, std::uint64_t needed) const;
    [[noreturn]] void no_room(const MemoryRoom& room, std::uint64_t needed) const;
    void read_segments();
    void take_untold(std::uint32_t count);
    void keep_untold(std::uint32_t number) const;
    StoredSegment open_segment(std::uint32_t number, const mempool::shm::SegmentEntry& entry) const;
    [[nodiscard]] bool is_trusted_owner(uid_t uid) const noexcept;
    [[nodiscard]] int first_file() const noexcept { return segments_.front().own.get(); }
    void sign_header() noexcept;

    std::string name_;
    std::shared_ptr<Backing> backing_;
    std::optional<uid_t> owner_;
    std::optional<gid_t> group_;
    mode_t mode_;
    std::vector<StoredSegment> segments_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
    std::array<std::uint8_t, 16> uuid_{};
    std::array<std::byte, sizeof(mempool::shm::Header)> header_{};  // as it must stand there
    bool truncated_ = false;
    std::string missing_names_;
    std::optional<mempool::shm::SegmentMap> map_;
    std::optional<FaultGuard> guard_;  // ends before the mapping
    mempool::shm::Pool view_;
};

}  // namespace mempoold
