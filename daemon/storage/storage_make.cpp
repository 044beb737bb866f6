#include <fcntl.h>
#include <fmt/core.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/allocation.hpp"
#include "daemon/storage/new_segment.hpp"
#include "daemon/storage/storage.hpp"
#include "mempool/shm/depot/create.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

/// Removes a segment again unless what it is for came about.
class RemoveUnlessKept {
public:
    RemoveUnlessKept(Backing& backing, std::uint32_t number) : backing_(backing), number_(number) {}
    RemoveUnlessKept(const RemoveUnlessKept&) = delete;
    RemoveUnlessKept& operator=(const RemoveUnlessKept&) = delete;
    ~RemoveUnlessKept() {
        if (!kept_) {
            backing_.remove(number_);
        }
    }
    void keep() noexcept { kept_ = true; }

private:
    Backing& backing_;
    std::uint32_t number_;
    bool kept_ = false;
};

void fill_random(void* to, std::size_t bytes) {
    if (::getrandom(to, bytes, 0) != static_cast<ssize_t>(bytes)) {
        fail(errno, "getrandom");
    }
}

/// All that must have memory before segment `number` is announced, by the file it is in: slots in
/// the segment's own, metadata in the first's.
std::vector<FilePart> parts_of(const shm::Geometry& g, std::uint32_t number,
                               const shm::SegmentEntry& entry, int own, int first) {
    const std::uint64_t file_bytes = shm::segment_file_bytes(g, number, entry.slot_count);
    std::vector<FilePart> parts;
    if (number == 0) {
        parts.push_back({own, {g.slots_offset, file_bytes - g.slots_offset}});
        parts.push_back({first, {0, g.records_offset}});
    } else {
        parts.push_back({own, {0, file_bytes}});
    }
    for (const FileRange& range : shm::storage_of(g, entry)) {
        parts.push_back({first, range});
    }
    return parts;
}

std::uint64_t bytes_needed(const shm::Geometry& g, std::uint32_t number,
                           const shm::SegmentEntry& entry) {
    std::uint64_t bytes = 0;
    for (const FilePart& part : parts_of(g, number, entry, -1, -1)) {
        bytes += part.range.bytes;
    }
    return bytes;
}

UniqueFd another(int fd, const std::string& object) {
    UniqueFd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 3)};
    if (!copy) {
        fail(errno, "cannot keep " + object + " open");
    }
    return copy;
}

}  // namespace

/// Refuses at once what cannot succeed: an allocation in vain takes its time.
void Storage::require_space(std::uint64_t bytes) const {
    const Space space = backing_->space();
    if (space.size != 0 && bytes > space.free) {
        no_space(ENOSPC, bytes);
    }
    if (const auto room = lacks_room(MemoryLimit(), bytes)) {
        no_room(*room, bytes);
    }
}

void Storage::no_room(const MemoryRoom& room, std::uint64_t needed) const {
    fail(ENOSPC, fmt::format("pool '{}' needs {} bytes more of memory, and {} leaves {}: ask for "
                             "fewer slots, or raise that limit (MemoryMax= of mempoold's unit, or "
                             "the container's)",
                             name_, needed, room.limit, room.bytes));
}

void Storage::no_space(int error, std::uint64_t needed) const {
    if (error == EFBIG) {
        fail(error, fmt::format("pool '{}' needs {} bytes more, and mempoold may not make a file "
                                "that large: raise its file size limit (ulimit -f, LimitFSIZE=)",
                                name_, needed));
    }
    fail(error, fmt::format("pool '{}' needs {} bytes more {}", name_, needed,
                            backing_->explain_shortage()));
}

void Storage::set_permissions(int fd, std::uint32_t number) const {
    const uid_t owner = owner_.value_or(static_cast<uid_t>(-1));
    const gid_t group = group_.value_or(static_cast<gid_t>(-1));
    if ((owner_ || group_) && ::fchown(fd, owner, group) != 0) {
        fail(errno, fmt::format("cannot give {} to its owner and group: mempoold needs "
                                "CAP_CHOWN for that, or leave `owner` and `group` away",
                                backing_->describe(number)));
    }
    if (::fchmod(fd, mode_) != 0) {
        fail(errno, "cannot set the mode of " + backing_->describe(number));
    }
}

NewPool Storage::begin(const PoolConfig& config, std::uint64_t now,
                       std::shared_ptr<Backing> backing) {
    const auto geometry = shm::make_geometry(config.shape());
    if (!geometry) {
        fail(EINVAL, fmt::format("pool '{}' is larger than a pool can be", config.name));
    }
    StoredSegment segment;
    segment.entry = shm::next_segment(*geometry, 0, config.slots, nullptr, now);
    NewPool made;
    made.storage.reset(new Storage(config, std::move(backing)));
    Storage& storage = *made.storage;
    storage.require_space(bytes_needed(*geometry, 0, segment.entry));
    UniqueFd own = storage.backing_->create(0);
    RemoveUnlessKept removal(*storage.backing_, 0);
    segment.entry.object = storage.backing_->random_part(0);
    storage.open_first(std::move(own));
    storage.map(*geometry);

    shm::Identity identity;
    identity.name = storage.name_;
    identity.now = now;
    fill_random(&identity.first_generation, sizeof(identity.first_generation));
    fill_random(identity.uuid.data(), identity.uuid.size());
    identity.uuid[6] = static_cast<std::uint8_t>((identity.uuid[6] & 0x0fU) | 0x40U);
    identity.uuid[8] = static_cast<std::uint8_t>((identity.uuid[8] & 0x3fU) | 0x80U);
    storage.uuid_ = identity.uuid;
    segment.own = another(storage.first_file(), storage.backing_->describe(0));
    UniqueFd first = another(storage.first_file(), storage.backing_->describe(0));
    made.first.reset(
        new NewSegment(storage.backing_, 0, std::move(segment), std::move(first), storage.view_,
                       [view = storage.view_, identity] { shm::write_header(view, identity); }));
    removal.keep();  // it removes itself from here on
    return made;
}

std::unique_ptr<NewSegment> Storage::begin_segment(std::uint32_t slots, std::uint64_t now) {
    const auto number = static_cast<std::uint32_t>(segments_.size());
    const shm::SegmentEntry& last = segments_.back().entry;
    StoredSegment segment;
    segment.entry = shm::next_segment(geometry(), number, slots, &last, now);
    const std::string fault = shm::check_segment_entry(geometry(), number, segment.entry, &last);
    if (!fault.empty()) {
        fail(EINVAL, fault);
    }
    clear_leftovers();
    require_space(bytes_needed(geometry(), number, segment.entry));
    UniqueFd first = another(first_file(), backing_->describe(0));
    segment.own = backing_->create(number);
    RemoveUnlessKept removal(*backing_, number);
    segment.entry.object = backing_->random_part(number);
    segment.writable = backing_->open(number, true);
    std::unique_ptr<NewSegment> made(
        new NewSegment(backing_, number, std::move(segment), std::move(first), view_, nullptr));
    removal.keep();  // it removes itself from here on
    return made;
}

void Storage::announce(NewSegment& made) {
    StoredSegment& segment = made.segment_;
    const std::uint64_t needed = bytes_needed(geometry(), made.number_, segment.entry);
    if (made.allocation_.room()) {
        no_room(*made.allocation_.room(), needed);
    }
    if (made.allocation_.error() != 0) {
        no_space(made.allocation_.error(), needed);
    }
    set_permissions(segment.own.get(), made.number_);
    if (made.number_ == 0) {
        segments_.front().entry = segment.entry;
        sign_header();
        shm::publish_segment(view_, 0, segment.entry);
        shm::mark_ready(view_);
        keep_header();
        backing_->keep(0, first_file(), uuid_);
        made.announced_ = true;
        return;
    }
    shm::SegmentHeader header{};
    header.magic = shm::kSegmentMagic;
    header.layout_version = shm::kLayoutVersion;
    header.number = made.number_;
    std::copy(uuid_.begin(), uuid_.end(), std::begin(header.uuid));
    header.entry = segment.entry;
    if (::pwrite(segment.own.get(), &header, sizeof(header), 0) != sizeof(header)) {
        fail(EIO, "cannot write the header of " + backing_->describe(made.number_));
    }
    backing_->keep(made.number_, segment.own.get(), uuid_);
    segments_.push_back(std::move(segment));
    made.announced_ = true;
    shm::publish_segment(view_, made.number_, segments_.back().entry);
}

NewSegment::NewSegment(std::shared_ptr<Backing> backing, std::uint32_t number,
                       StoredSegment segment, UniqueFd first, const shm::Pool& view,
                       std::function<void()> write_header)
    : backing_(std::move(backing)),
      number_(number),
      segment_(std::move(segment)),
      first_(std::move(first)),
      view_(view),
      allocation_(
          parts_of(view.geometry(), number, segment_.entry, segment_.own.get(), first_.get())),
      write_header_(std::move(write_header)) {}

NewSegment::~NewSegment() {
    if (!announced_) {
        for (const FileRange& range : shm::storage_of(view_.geometry(), segment_.entry)) {
            deallocate(first_.get(), range);
        }
        backing_->remove(number_);
    }
}

bool NewSegment::step() noexcept {
    constexpr std::uint32_t kMagazines = 2000;  // a few milliseconds, as a piece of memory
    if (!allocation_.step()) {
        return false;
    }
    if (allocation_.error() != 0 || filled_ == segment_.entry.magazine_count) {
        return true;
    }
    if (write_header_) {
        std::exchange(write_header_, nullptr)();
    }
    const std::uint32_t end = std::min(filled_ + kMagazines, segment_.entry.magazine_count);
    shm::fill_magazines(view_, segment_.entry, filled_, end);
    filled_ = end;
    return filled_ == segment_.entry.magazine_count;
}

// Whatever the backing has beyond the announced segments is this daemon's own.
void Storage::clear_leftovers() const {
    for (const std::uint32_t number : backing_->list()) {
        if (number >= segments_.size()) {
            const std::string what = backing_->describe(number);
            backing_->remove(number);
            log_info("pool '{}': removed {}, left by a growth that was cut off", name_, what);
        }
    }
}

}  // namespace mempoold
