#include "daemon/storage/storage.hpp"

#include <fmt/core.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "mempool/shm/create.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

// Throws Unfinished if the daemon that made the object ended before it marked the pool ready.
void refuse_unfinished(int fd, const shm::Header& header, std::uint64_t file_bytes) {
    struct FirstPages {
        std::array<std::array<unsigned char, shm::kPage>, 4> pages;
    };
    if (file_bytes == 0) {
        throw Unfinished("it is empty");
    }
    auto first = std::make_unique<FirstPages>();
    if (file_bytes < sizeof(FirstPages) || read_at(fd, first.get(), sizeof(FirstPages), 0) != 0) {
        return;
    }
    std::uint32_t starts = 0;
    std::memcpy(&starts, first->pages[1].data() + offsetof(shm::Live, daemon_starts),
                sizeof(starts));
    const bool creating = header.state.load(std::memory_order_relaxed) == shm::PoolState::kCreating;
    if (is_zero(*first) || (creating && header.magic == shm::kMagic && starts == 0)) {
        throw Unfinished("its creation was cut off");
    }
}

}  // namespace

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

std::uint64_t Storage::key() const noexcept {
    std::uint64_t key = 0;
    std::memcpy(&key, uuid_.data(), sizeof(key));
    return key | 1U;
}

// Opens segment 0 twice more: for clients, who may do as they like with their description, and for
// inspectors, who may only read.
void Storage::open_first(UniqueFd lock) {
    lock_ = std::move(lock);
    StoredSegment first;
    first.writable = backing_->open(0, true);
    first.read_only = backing_->open(0, false);
    for (const UniqueFd* fd : {&lock_, &first.writable, &first.read_only}) {
        if (!*fd || !backing_->is(0, fd->get())) {
            fail(EBUSY,
                 backing_->describe(0) + " was replaced meanwhile: is another mempoold at work?");
        }
    }
    const struct stat status = status_of(lock_.get());
    device_ = status.st_dev;
    inode_ = status.st_ino;
    segments_.push_back(std::move(first));
}

void Storage::map(const shm::Geometry& geometry) {
    map_.emplace(geometry.slots_offset);
    guard_.emplace(map_->base(), geometry.slots_offset);
    map_->map(lock_.get(), 0, 0, geometry.slots_offset, true);
    view_ = shm::Pool(map_->base(), geometry);
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
        if (::fstat(segment.writable.get(), &status) == 0 &&
            static_cast<std::uint64_t>(status.st_size) < bytes) {
            truncated_ = true;
        }
    }
}

std::unique_ptr<Storage> Storage::reattach(const PoolConfig& config,
                                           std::shared_ptr<Backing> backing) {
    std::unique_ptr<Storage> storage(new Storage(config, std::move(backing)));
    UniqueFd lock;
    try {
        lock = storage->backing_->open(0, true);
    } catch (const std::system_error& e) {
        if (e.code() == std::errc::permission_denied && config.owner) {
            throw;  // ours, but the configured owner's mode keeps us out
        }
        throw Unusable(e.what());
    }
    if (!lock) {
        return nullptr;
    }
    const struct stat status = status_of(lock.get());
    if (!S_ISREG(status.st_mode)) {
        throw Unusable("it is not a regular file");
    }
    if (!storage->is_trusted_owner(status.st_uid)) {
        throw Unusable(
            fmt::format("it belongs to uid {}, not to the daemon's user", status.st_uid));
    }
    storage->backing_->lock(lock.get());
    storage->open_first(std::move(lock));

    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    shm::Header header{};
    if (file_bytes >= sizeof(header) &&
        read_at(storage->lock_.get(), &header, sizeof(header), 0) != 0) {
        throw Unusable("its header cannot be read");
    }
    refuse_unfinished(storage->lock_.get(), header, file_bytes);
    if (const std::string fault = shm::check_header(header, file_bytes); !fault.empty()) {
        throw Unusable(fault);
    }
    if (const std::string fault = storage->backing_->check(storage->lock_.get()); !fault.empty()) {
        throw Unusable(fault);
    }
    if (config.name != header.name) {
        throw Unusable("it is another pool's, renamed");
    }
    std::copy(std::begin(header.uuid), std::end(header.uuid), storage->uuid_.begin());
    storage->map(header.geometry);
    std::memcpy(storage->header_.data(), static_cast<const void*>(&header), sizeof(header));
    storage->read_segments();
    if (const std::uint64_t expected = shm::segment_file_bytes(
            header.geometry, 0, storage->segments_.front().entry.slot_count);
        file_bytes < expected) {
        throw Unusable(fmt::format("it is {} bytes long and should be {}: it was truncated",
                                   file_bytes, expected));
    }
    return storage;
}

// Copies the segment table, checks it, and opens what it names.
void Storage::read_segments() {
    const int fd = lock_.get();
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
}

StoredSegment Storage::open_segment(std::uint32_t number, const shm::SegmentEntry& entry) const {
    const std::string object = backing_->describe(number);
    StoredSegment segment;
    segment.entry = entry;
    try {
        segment.writable = backing_->open(number, true);
        segment.read_only = backing_->open(number, false);
    } catch (const std::system_error& e) {
        throw Unusable(e.what());
    }
    if (!segment.writable || !segment.read_only) {
        throw Unusable(fmt::format("its segment {} is missing", object));
    }
    const struct stat status = status_of(segment.writable.get());
    const std::uint64_t expected = shm::segment_file_bytes(geometry(), number, entry.slot_count);
    if (!S_ISREG(status.st_mode) || !is_trusted_owner(status.st_uid) ||
        static_cast<std::uint64_t>(status.st_size) < expected) {
        throw Unusable(fmt::format("its segment {} is truncated or not the daemon's", object));
    }
    if (const std::string fault = backing_->check(segment.writable.get()); !fault.empty()) {
        throw Unusable(fmt::format("its segment {}: {}", object, fault));
    }
    shm::SegmentHeader header{};
    if (read_at(segment.writable.get(), &header, sizeof(header), 0) != 0 ||
        header.magic != shm::kSegmentMagic || header.layout_version != shm::kLayoutVersion ||
        header.number != number ||
        !std::equal(uuid_.begin(), uuid_.end(), std::begin(header.uuid)) ||
        std::memcmp(&header.entry, &entry, sizeof(entry)) != 0) {
        throw Unusable(fmt::format("its segment {} belongs to another pool", object));
    }
    return segment;
}

Storage::SlotBytes Storage::locate(shm::SlotIndex i) const noexcept {
    for (std::uint32_t number = 0; number < segments_.size(); ++number) {
        const StoredSegment& segment = segments_[number];
        if (raw(i) >= segment.entry.first_index && raw(i) < segment.entry.end_index()) {
            const std::uint64_t distance = raw(i) - segment.entry.first_index;
            const std::uint64_t start = number == 0 ? geometry().slots_offset : shm::kPage;
            return {segment.writable.get(), start + distance * geometry().slot_stride};
        }
    }
    return {};
}

int Storage::erase(shm::SlotIndex i) const noexcept {
    const SlotBytes slot = locate(i);
    return slot.fd < 0 ? EINVAL : write_zeros(slot.fd, geometry().shape.slot_size, slot.offset);
}

// By hand: the mapping keeps the description open that has the lock.
void Storage::give_up() noexcept {
    ::flock(lock_.get(), LOCK_UN);
    lock_.reset();
}

void Storage::remove_objects() const {
    for (std::uint32_t number = 0; number < segments_.size(); ++number) {
        if (backing_->is(number, segments_[number].writable.get())) {
            backing_->remove(number);
        }
    }
}

}  // namespace mempoold
