// A pool's address range in this process: reserved whole, filled segment by segment.
//
// Used by client, inspector and daemon. The range is PROT_NONE until a segment is mapped over its
// part, so an offset is valid or faults cleanly, and nothing else can move in between. None of it
// is written into cores.
#pragma once

#include <sys/mman.h>

#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <utility>
#include <vector>

namespace mempool::shm {

/// Lets mapped_region map a descriptor that came over a socket.
struct DescriptorMapping {
    int fd = -1;
    [[nodiscard]] boost::interprocess::mapping_handle_t get_mapping_handle() const {
        return {fd, false};
    }
};

/// The reserved range of one pool and the segments mapped into it, in ascending order of address.
/// Not thread-safe; what is mapped stays where it is until the object goes.
class SegmentMap {
public:
    /// Reserves `range_bytes` (whole pages) of address space. Throws std::system_error.
    explicit SegmentMap(std::uint64_t range_bytes) : end_(range_bytes) {
        void* base = ::mmap(nullptr, range_bytes, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(),
                                    "cannot reserve address space for the pool (see ulimit -v)");
        }
        base_ = static_cast<std::byte*>(base);
        keep_out_of_cores(0, range_bytes);
    }
    SegmentMap(SegmentMap&& other) noexcept
        : base_(std::exchange(other.base_, nullptr)),
          mapped_(other.mapped_),
          end_(other.end_),
          gaps_(std::move(other.gaps_)),
          regions_(std::move(other.regions_)) {}
    SegmentMap(const SegmentMap&) = delete;
    SegmentMap& operator=(const SegmentMap&) = delete;
    SegmentMap& operator=(SegmentMap&&) = delete;

    /// Every address is unmapped once: the regions by themselves, the rest here. Unmapping the
    /// whole range could hit what another thread mapped into a region's place meanwhile.
    ~SegmentMap() {
        if (base_ != nullptr) {
            for (const auto& [from, to] : gaps_) {
                ::munmap(base_ + from, to - from);
            }
            if (mapped_ < end_) {
                ::munmap(base_ + mapped_, end_ - mapped_);
            }
        }
    }

    /// Maps `bytes` of `fd` from `file_offset` at `range_offset`, which must lie after all that is
    /// mapped (both in whole pages). The descriptor may be closed afterwards. Throws
    /// std::system_error.
    void map(int fd, std::uint64_t file_offset, std::uint64_t range_offset, std::uint64_t bytes,
             bool writable) {
        if (range_offset < mapped_ || range_offset + bytes > end_) {
            throw std::system_error(EINVAL, std::generic_category(),
                                    "a segment does not fit into the pool's address range");
        }
        namespace ipc = boost::interprocess;
        try {
            regions_.emplace_back(
                DescriptorMapping{fd}, writable ? ipc::read_write : ipc::read_only,
                static_cast<ipc::offset_t>(file_offset), bytes, base_ + range_offset, MAP_FIXED);
        } catch (const ipc::interprocess_exception& e) {
            throw std::system_error(e.get_native_error(), std::generic_category(),
                                    "cannot map a segment");
        }
        if (range_offset > mapped_) {
            gaps_.emplace_back(mapped_, range_offset);
        }
        mapped_ = range_offset + bytes;
        keep_out_of_cores(range_offset, bytes);
    }

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] bool contains(const void* address) const noexcept {
        const auto* byte = static_cast<const std::byte*>(address);
        return byte >= base_ && byte < base_ + end_;
    }

private:
    // A pool made of memfds counts as anonymous memory: each crash of a client would write all of
    // it into its core. If that is refused, cores are large, and nothing else.
    void keep_out_of_cores(std::uint64_t range_offset, std::uint64_t bytes) const noexcept {
        ::madvise(base_ + range_offset, bytes, MADV_DONTDUMP);
    }

    std::byte* base_ = nullptr;
    std::uint64_t mapped_ = 0;  // end of what has been mapped, from base_
    std::uint64_t end_ = 0;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps_;
    std::vector<boost::interprocess::mapped_region> regions_;
};

}  // namespace mempool::shm
