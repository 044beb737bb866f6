#include "daemon/storage/storage.hpp"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "mempool/shm/depot/create.hpp"

namespace mempoold {

namespace shm = mempool::shm;

Storage::Storage(const PoolConfig& config, std::shared_ptr<Backing> backing)
    : name_(config.name),
      backing_(backing ? std::move(backing) : make_backing(config, nullptr)),
      owner_(config.owner),
      group_(config.group),
      mode_(config.mode) {}

bool Storage::is_trusted_owner(uid_t uid) const noexcept {
    return uid == 0 || uid == ::geteuid() || uid == owner_;
}

std::uint32_t Storage::slots() const noexcept {
    std::uint32_t count = 0;
    for (const StoredSegment& segment : segments_) {
        count += segment.entry.slot_count;
    }
    return count;
}

std::uint64_t pool_key(const std::uint8_t* uuid) noexcept {
    std::uint64_t key = 0;
    std::memcpy(&key, uuid, sizeof(key));
    return key | 1U;
}

void Storage::open_first(UniqueFd own) {
    StoredSegment first;
    first.own = std::move(own);
    first.writable = backing_->open(0, true);
    for (const UniqueFd* fd : {&first.own, &first.writable}) {
        if (!*fd || !backing_->is(0, fd->get())) {
            fail(EBUSY,
                 backing_->describe(0) + " was replaced meanwhile: is another mempoold at work?");
        }
    }
    const struct stat status = status_of(first.own.get());
    device_ = status.st_dev;
    inode_ = status.st_ino;
    segments_.push_back(std::move(first));
}

void Storage::map(const shm::Geometry& geometry) {
    map_.emplace(geometry.slots_offset);
    guard_.emplace(map_->base(), geometry.slots_offset);
    map_->map(first_file(), 0, 0, geometry.slots_offset, true);
    view_ = shm::Pool(map_->base(), geometry);
}

// Says in the header where the daemon keeps its lock.
void Storage::sign_header() noexcept {
    const auto [device, inode] = backing_->runtime_identity();
    view_.header().runtime_device = device;
    view_.header().runtime_inode = inode;
}

// Once it is as it will stay.
void Storage::keep_header() noexcept {
    std::memcpy(header_.data(), static_cast<const void*>(&view_.header()), header_.size());
}

Storage::Restored Storage::restore() noexcept {
    Restored restored;
    void* shared = static_cast<void*>(&view_.header());
    if (std::memcmp(shared, header_.data(), header_.size()) != 0) {
        std::memcpy(shared, header_.data(), header_.size());
        restored.header = true;
    }
    const auto count = static_cast<std::uint32_t>(segments_.size());
    for (std::uint32_t number = 0; number < count; ++number) {
        shm::SegmentEntry& entry = view_.segment(number);
        if (std::memcmp(&entry, &segments_[number].entry, sizeof(entry)) != 0) {
            entry = segments_[number].entry;
            ++restored.entries;
        }
    }
    if (view_.live().segment_count.load(std::memory_order_relaxed) != count) {
        view_.live().segment_count.store(count, std::memory_order_release);
        ++restored.entries;
    }
    return restored;
}

void Storage::check_sizes() noexcept {
    for (std::uint32_t number = 0; number < segments_.size(); ++number) {
        struct stat status {};
        const StoredSegment& segment = segments_[number];
        const std::uint64_t bytes =
            shm::segment_file_bytes(geometry(), number, segment.entry.slot_count);
        if (::fstat(segment.own.get(), &status) == 0 &&
            static_cast<std::uint64_t>(status.st_size) < bytes) {
            truncated_ = true;
        }
    }
}

std::unique_ptr<Storage> Storage::reattach(const PoolConfig& config,
                                           std::shared_ptr<Backing> backing) {
    std::unique_ptr<Storage> storage(new Storage(config, std::move(backing)));
    if (!storage->backing_->find()) {
        return nullptr;
    }
    UniqueFd own = storage->backing_->open(0, true);
    const struct stat status = status_of(own.get());
    if (!storage->is_trusted_owner(status.st_uid)) {
        throw Unusable(
            fmt::format("it belongs to uid {}, not to the daemon's user", status.st_uid));
    }
    storage->open_first(std::move(own));

    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    shm::Header header{};
    if (file_bytes >= sizeof(header) &&
        read_at(storage->first_file(), static_cast<void*>(&header), sizeof(header), 0) != 0) {
        throw Unusable("its header cannot be read");
    }
    if (const std::string fault = shm::check_header(header, file_bytes); !fault.empty()) {
        throw Unusable(fault);
    }
    if (const std::string fault = storage->backing_->check(storage->first_file()); !fault.empty()) {
        throw Unusable(fault);
    }
    if (config.name != header.name) {
        throw Unusable("it is another pool's, renamed");
    }
    std::copy(std::begin(header.uuid), std::end(header.uuid), storage->uuid_.begin());
    storage->map(header.geometry);
    storage->read_segments();
    if (const std::uint64_t expected = shm::segment_file_bytes(
            header.geometry, 0, storage->segments_.front().entry.slot_count);
        file_bytes < expected) {
        throw Unusable(fmt::format("it is {} bytes long and should be {}: it was truncated",
                                   file_bytes, expected));
    }
    storage->sign_header();
    storage->keep_header();
    storage->restore();  // tells of segments that the table did not
    return storage;
}

// Copies the segment table, checks it, and opens what it names.
void Storage::read_segments() {
    const int fd = first_file();
    std::uint32_t count = 0;
    std::array<shm::SegmentEntry, shm::kMaxSegments> table{};
    if (read_at(fd, &count, sizeof(count), shm::kPage + offsetof(shm::Live, segment_count)) != 0 ||
        read_at(fd, table.data(), sizeof(table), 2 * shm::kPage) != 0) {
        throw Unusable("its segment table cannot be read");
    }
    if (count == 0 || count > shm::kMaxSegments) {
        throw Unusable(fmt::format("it says that it has {} segments", count));
    }
    const shm::SegmentEntry* previous = nullptr;
    for (std::uint32_t number = 0; number < count; ++number) {
        const shm::SegmentEntry& entry = table[number];
        const std::string fault = shm::check_segment_entry(geometry(), number, entry, previous);
        if (!fault.empty()) {
            throw Unusable(fault);
        }
        if (number == 0) {
            segments_.front().entry = entry;
        } else {
            segments_.push_back(open_segment(number, entry));
        }
        previous = &entry;
    }
    take_untold(count);
}

// Segments beyond the `count` that the table has: their daemon died before it told of them, or
// somebody wrote a smaller number there. What is whole is served. What clients may have used and is
// not whole can't be left out, since what comes next would have its indices.
void Storage::take_untold(std::uint32_t count) {
    for (const std::uint32_t number : backing_->list()) {
        if (number < count) {
            continue;
        }
        const bool kept = backing_->is_kept(number);
        shm::SegmentHeader header{};
        const UniqueFd file = backing_->open(number, false);
        if (number == segments_.size() && file &&
            read_at(file.get(), &header, sizeof(header), 0) == 0 &&
            shm::check_segment_entry(geometry(), number, header.entry, &segments_.back().entry)
                .empty()) {
            try {
                segments_.push_back(open_segment(number, header.entry));
                keep_untold(number);
                continue;
            } catch (const Unusable&) {
                if (kept) {
                    throw;
                }
            }
        }
        if (kept) {
            throw Unusable(
                fmt::format("its segment table, or the header of its segment {}, was "
                            "written over",
                            backing_->describe(number)));
        }
    }
}

void Storage::keep_untold(std::uint32_t number) const {
    log_warning("pool '{}': {} is one of its segments, though its table did not say so", name_,
                backing_->describe(number));
    try {
        if (!backing_->is_kept(number)) {
            backing_->keep(number, segments_.back().own.get(), uuid_);
        }
    } catch (const std::system_error& e) {
        log_warning("pool '{}': {}", name_, e.what());  // the next daemon finds it in this way too
    }
}

StoredSegment Storage::open_segment(std::uint32_t number, const shm::SegmentEntry& entry) const {
    const std::string object = backing_->describe(number);
    StoredSegment segment;
    segment.entry = entry;
    segment.own = backing_->open(number, true);
    segment.writable = backing_->open(number, true);
    if (!segment.own || !segment.writable) {
        throw Unusable(fmt::format("its segment {} is missing", object));
    }
    const struct stat status = status_of(segment.own.get());
    const std::uint64_t expected = shm::segment_file_bytes(geometry(), number, entry.slot_count);
    if (!S_ISREG(status.st_mode) || !is_trusted_owner(status.st_uid) ||
        static_cast<std::uint64_t>(status.st_size) < expected) {
        throw Unusable(fmt::format("its segment {} is truncated or not the daemon's", object));
    }
    if (const std::string fault = backing_->check(segment.own.get()); !fault.empty()) {
        throw Unusable(fmt::format("its segment {}: {}", object, fault));
    }
    shm::SegmentHeader header{};
    if (read_at(segment.own.get(), &header, sizeof(header), 0) != 0 ||
        header.magic != shm::kSegmentMagic || header.layout_version != shm::kLayoutVersion ||
        header.number != number ||
        !std::equal(uuid_.begin(), uuid_.end(), std::begin(header.uuid)) ||
        std::memcmp(&header.entry, &entry, sizeof(entry)) != 0) {
        throw Unusable(fmt::format("its segment {} belongs to another pool", object));
    }
    return segment;
}

void Storage::check_names() noexcept {
    // The runtime directory may be another one by now. Only what it says changes: whether somebody
    // wrote over the rest is restore()'s to find and to tell.
    const auto [device, inode] = backing_->runtime_identity();
    const auto put = [&](std::size_t offset, std::uint64_t& shared, std::uint64_t value) {
        if (std::memcmp(&header_.at(offset), &value, sizeof(value)) != 0) {
            std::memcpy(&header_.at(offset), &value, sizeof(value));
            shared = value;
        }
    };
    put(offsetof(shm::Header, runtime_device), view_.header().runtime_device, device);
    put(offsetof(shm::Header, runtime_inode), view_.header().runtime_inode, inode);
    try {
        missing_names_ = backing_->mend_names();
    } catch (const std::exception& e) {
        log_warning("pool '{}': its names could not be looked at: {}", name_, e.what());
    }
}

void Storage::copy_metadata(std::uint64_t offset, std::uint64_t bytes,
                            std::byte* to) const noexcept {
    std::memset(to, 0, bytes);
    const auto copy = [&](const shm::FileRange& range) {
        const std::uint64_t from = std::max(offset, range.offset);
        const std::uint64_t end = std::min(offset + bytes, range.offset + range.bytes);
        for (std::uint64_t at = from; at < end; at += sizeof(std::uint64_t)) {
            auto& word = *reinterpret_cast<std::uint64_t*>(view_.base() + at);
            const std::uint64_t value = std::atomic_ref(word).load(std::memory_order_acquire);
            std::memcpy(to + (at - offset), &value, sizeof(value));
        }
    };
    copy({0, geometry().records_offset});
    for (const StoredSegment& segment : segments_) {
        for (const shm::FileRange& range : shm::storage_of(geometry(), segment.entry)) {
            copy(range);
        }
    }
}

Storage::SlotBytes Storage::locate(shm::SlotIndex i) const noexcept {
    for (std::uint32_t number = 0; number < segments_.size(); ++number) {
        const StoredSegment& segment = segments_[number];
        if (raw(i) >= segment.entry.first_index && raw(i) < segment.entry.end_index()) {
            const std::uint64_t distance = raw(i) - segment.entry.first_index;
            const std::uint64_t start = number == 0 ? geometry().slots_offset : shm::kPage;
            return {segment.own.get(), start + distance * geometry().slot_stride};
        }
    }
    return {};
}

int Storage::erase(shm::SlotIndex i) const noexcept {
    const SlotBytes slot = locate(i);
    return slot.fd < 0 ? EINVAL : write_zeros(slot.fd, geometry().shape.slot_size, slot.offset);
}

// The first goes last: as long as it is there, the next daemon knows the others.
void Storage::remove_objects() const {
    for (auto number = static_cast<std::uint32_t>(segments_.size()); number-- > 0;) {
        backing_->remove(number);
    }
}

}  // namespace mempoold
