// A pool's metadata as a private copy, for those who only look.
//
// Used by Inspector and find_pools(). The daemon is asked first and passes bytes, never memory that
// is shared; only if none answers is the pool's object read, and then only the one that a trusted
// index names. Nothing here can be stopped or made to fault by whoever has the pool.
// Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mapping.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/words/pool_index.hpp"

namespace mempool::detail {

/// The longest that a daemon which does not answer holds up somebody who only looks.
constexpr std::chrono::milliseconds kLookPatience{1000};

/// The index of the runtime directory that goes with a socket.
struct TrustedIndex {
    shm::PoolIndex index;
    std::string path;       ///< of the file; empty: there is none that can be trusted
    std::string owner;      ///< "uid N", whose it is
    std::string complaint;  ///< why one that is there is not trusted, or why there is none
};
[[nodiscard]] TrustedIndex read_index(const std::string& socket);

/// The file in /dev/shm that the index means, opened for reading; empty, with errno set, if it is
/// not there, is another, or may not be read.
[[nodiscard]] shm::UniqueFd open_indexed(std::string_view pool, std::uint32_t number,
                                         const shm::IndexedObject& object) noexcept;
/// Whether that file stands there.
[[nodiscard]] bool stands(std::string_view pool, std::uint32_t number,
                          const shm::IndexedObject& object) noexcept;

/// Where bytes of metadata come from.
class MetadataSource {
public:
    MetadataSource() = default;
    MetadataSource(const MetadataSource&) = delete;
    MetadataSource& operator=(const MetadataSource&) = delete;
    virtual ~MetadataSource() = default;

    /// Begins a new look; how many bytes there are. Throws Error.
    virtual std::uint64_t begin() = 0;
    /// Copies `bytes` (a multiple of 8) from `offset` on. Throws Error.
    virtual void read(std::uint64_t offset, std::uint64_t bytes, std::byte* to) = 0;
    /// Whether the daemon answers for the pool.
    [[nodiscard]] virtual bool served() const noexcept = 0;
    /// Of what was read without the daemon: why, and what was trusted.
    [[nodiscard]] virtual std::string note() const = 0;
    /// Names that the pool's objects have lost; empty if none.
    [[nodiscard]] virtual std::string missing_names() const = 0;
};

/// Finds out where `pool` can be looked at. Throws Error.
[[nodiscard]] std::unique_ptr<MetadataSource> find_source(std::string_view pool,
                                                          const AttachOptions& options, LookAt at);

/// The copy. What has no memory in the pool is zeros here, and takes none.
class MetadataCopy {
public:
    /// Looks at the header alone, so that what is no pool of that name is refused at once. Throws
    /// Error.
    MetadataCopy(std::unique_ptr<MetadataSource> source, std::string_view pool);

    /// Copies everything again. Throws Error; the former copy is gone then.
    void refresh();

    [[nodiscard]] const shm::Pool& pool() const noexcept { return pool_; }
    [[nodiscard]] const PoolIdentity& identity() const noexcept { return identity_; }
    [[nodiscard]] const MetadataSource& source() const noexcept { return *source_; }
    /// The segment table, checked. Throws Error if it was overwritten.
    [[nodiscard]] const std::vector<shm::SegmentEntry>& segments() const;
    /// Whether a ring stood still while it was copied.
    [[nodiscard]] bool ring_stood_still(shm::RingId ring) const noexcept {
        return raw(ring) < stood_still_.size() && stood_still_[raw(ring)];
    }

private:
    void read_header();
    void read(std::uint64_t offset, std::uint64_t bytes);
    void read_range(std::uint64_t offset, std::uint64_t bytes);

    std::string name_;
    std::unique_ptr<MetadataSource> source_;
    PoolIdentity identity_;
    std::unique_ptr<shm::SegmentMap> memory_;  // private pages
    shm::Pool pool_;
    std::vector<shm::SegmentEntry> segments_;
    std::string table_fault_;
    std::vector<bool> stood_still_;  // by RingId
};

}  // namespace mempool::detail
