// A pool's memory in this process, checked before it is mapped.
//
// Used by ClientImpl; its checks also by MetadataCopy. Whatever comes from a segment is copied
// once, checked, and then used from the copy; a file is measured before it is mapped, so that no
// access runs into its end. Not thread-safe: the owner locks; what is mapped stays where it is.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/pool.hpp"
#include "mempool/shm/words/segment_map.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempool::detail {

/// What a pool's header says about it, once accepted.
struct PoolIdentity {
    std::string name;
    shm::Geometry geometry;
    std::array<std::uint8_t, 16> uuid{};
    std::uint64_t created_at = 0;  ///< seconds since the epoch
    std::uint64_t file_bytes = 0;  ///< size of segment 0's object
    bool sealed = false;           ///< made of memfds that nobody can truncate, without names
};

/// Reads and checks the header of `pool`, whose segment 0 `fd` is. Throws Error: EPROTO for what is
/// no pool of that name, EAGAIN for one that is still being created.
[[nodiscard]] PoolIdentity read_identity(int fd, std::string_view pool);

/// The same from a header that was read already, of an object of `file_bytes`.
[[nodiscard]] PoolIdentity identity_of(const shm::Header& header, std::uint64_t file_bytes,
                                       std::string_view pool);

/// Throws Error, EPROTO: `pool` cannot be used, and `why`.
[[noreturn]] void refuse_pool(std::string_view pool, const std::string& why);

/// Opens segment `number` of `pool` by its name, if a regular file stands there; empty, with errno
/// set, if it can't be opened. Follows no link, waits for no FIFO or lease, opens no device.
[[nodiscard]] shm::UniqueFd open_object(std::string_view pool, std::uint32_t number,
                                        std::uint64_t random, bool writable) noexcept;

/// A pool's whole range, mapped for writing: segment 0 at once, further ones by extend().
class Mapping {
public:
    /// Asks the daemon for segment `number`; empty if it gives none.
    using Fetch = std::function<shm::UniqueFd(std::uint32_t number)>;

    /// Throws Error; nothing stays mapped then.
    Mapping(int fd, PoolIdentity identity);
    Mapping(Mapping&&) = default;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    Mapping& operator=(Mapping&&) = delete;
    /// Unmaps all, unless the process was forked inside extend(): then nobody knows what to unmap.
    ~Mapping();

    /// Maps the segments announced since, by name or else from `fetch` (of a sealed pool from
    /// `fetch` alone, and only what is sealed too); limit() tells how far it came. Throws nothing.
    void extend(const Fetch& fetch) noexcept;

    /// One past the last index mapped.
    [[nodiscard]] std::uint32_t limit() const noexcept { return last_.end_index(); }
    [[nodiscard]] const shm::Pool& pool() const noexcept { return pool_; }
    [[nodiscard]] const PoolIdentity& identity() const noexcept { return identity_; }

private:
    void map_segment(std::uint32_t number, const shm::SegmentEntry& entry, const Fetch& fetch);

    PoolIdentity identity_;
    std::unique_ptr<shm::SegmentMap> map_;
    shm::Pool pool_;
    shm::SegmentEntry last_{};    // as mapped last
    std::uint32_t segments_ = 0;  // mapped
    bool changing_ = false;       // inside extend()
};

}  // namespace mempool::detail
