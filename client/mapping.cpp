#include "mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include "mempool/error.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempool::detail {
namespace {

/// Size of `fd` if it is a regular file, as shared memory objects are.
std::optional<std::uint64_t> size_of(int fd) noexcept {
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 0) {
        return std::nullopt;
    }
    return static_cast<std::uint64_t>(status.st_size);
}

/// Reads `bytes` at the start of `fd`; false if that fails or there are fewer.
bool read_start(int fd, void* to, std::size_t bytes) noexcept {
    ssize_t got = 0;
    do {
        got = ::pread(fd, to, bytes, 0);
    } while (got < 0 && errno == EINTR);
    return got >= 0 && static_cast<std::size_t>(got) == bytes;
}

/// Does a step of mapping; throws its failure as Error with the pool's name.
template <typename Step>
auto for_pool(std::string_view pool, Step step) {
    try {
        return step();
    } catch (const std::system_error& e) {
        throw Error(e.code(), "cannot map pool '" + std::string(pool) + "'");
    }
}

/// Whether the size of the file behind `fd` can change no more, as the daemon promises for memfds.
bool is_sealed(int fd) noexcept {
    constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
    const int seals = ::fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & kSeals) == kSeals;
}

bool same_place(const shm::SegmentEntry& a, const shm::SegmentEntry& b) noexcept {
    return a.first_index == b.first_index && a.slot_count == b.slot_count &&
           a.first_magazine == b.first_magazine && a.magazine_count == b.magazine_count;
}

/// Whether `fd` is segment `number` of that pool, with the place and size the table says.
bool is_segment(int fd, const PoolIdentity& identity, std::uint32_t number,
                const shm::SegmentEntry& entry) noexcept {
    shm::SegmentHeader header{};
    return size_of(fd) >= shm::segment_file_bytes(identity.geometry, number, entry.slot_count) &&
           read_start(fd, &header, sizeof(header)) && header.magic == shm::kSegmentMagic &&
           header.layout_version == shm::kLayoutVersion && header.number == number &&
           std::memcmp(header.uuid, identity.uuid.data(), identity.uuid.size()) == 0 &&
           same_place(header.entry, entry);
}

[[noreturn]] void refuse_unready(std::string_view pool) {
    throw Error(EAGAIN, std::generic_category(),
                "pool '" + std::string(pool) +
                    "' is being created, or its creation was cut off: try again; if it stays so, "
                    "restart mempoold");
}

}  // namespace

void refuse_pool(std::string_view pool, const std::string& why) {
    throw Error(EPROTO, std::generic_category(),
                "pool '" + std::string(pool) + "' cannot be used: " + why);
}

PoolIdentity read_identity(int fd, std::string_view pool) {
    const std::optional<std::uint64_t> bytes = size_of(fd);
    if (!bytes) {
        refuse_pool(pool, "what stands for it is no shared memory object");
    }
    shm::Header header{};
    if (!read_start(fd, static_cast<void*>(&header), sizeof(header))) {
        refuse_unready(pool);
    }
    PoolIdentity identity = identity_of(header, *bytes, pool);
    identity.sealed = is_sealed(fd);
    return identity;
}

PoolIdentity identity_of(const shm::Header& header, std::uint64_t file_bytes,
                         std::string_view pool) {
    const bool ready = header.state.load(std::memory_order_relaxed) == shm::PoolState::kReady;
    const bool begun = header.magic == 0 || header.magic == shm::kMagic;
    if (!ready && begun) {
        refuse_unready(pool);
    }
    const std::string fault = shm::check_header(header, file_bytes);
    if (!fault.empty()) {
        refuse_pool(pool, fault);
    }
    if (pool != header.name) {
        refuse_pool(pool, "its header names it '" + std::string(header.name) +
                              "': the object was renamed or copied");
    }
    PoolIdentity identity;
    identity.name = pool;
    identity.geometry = header.geometry;
    std::memcpy(identity.uuid.data(), header.uuid, identity.uuid.size());
    identity.created_at = header.created_at;
    identity.file_bytes = file_bytes;
    return identity;
}

shm::UniqueFd open_object(std::string_view pool, std::uint32_t number, std::uint64_t random,
                          bool writable) noexcept {
    try {
        const std::string path = "/dev/shm" + shm::object_name(pool, number, random);
        const shm::UniqueFd file{::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
        if (!file) {
            return {};
        }
        if (!size_of(file.get())) {
            errno = EINVAL;
            return {};
        }
        const std::string again = "/proc/self/fd/" + std::to_string(file.get());
        return shm::UniqueFd{
            ::open(again.c_str(), (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC)};
    } catch (const std::bad_alloc&) {
        errno = ENOMEM;
        return {};
    }
}

Mapping::Mapping(int fd, PoolIdentity identity) : identity_(std::move(identity)) {
    const shm::Geometry& g = identity_.geometry;
    for_pool(identity_.name, [&] {
        map_ = std::make_unique<shm::SegmentMap>(g.range_bytes);
        map_->map(fd, 0, 0, g.slots_offset, true);
    });
    pool_ = shm::Pool(map_->base(), g);
    const shm::SegmentEntry entry = pool_.read_segment(0);
    const std::string fault = pool_.segment_count() == 0
                                  ? "it has no segment"
                                  : shm::check_segment_entry(g, 0, entry, nullptr);
    if (!fault.empty()) {
        refuse_pool(identity_.name, fault);
    }
    const std::uint64_t needed = shm::segment_file_bytes(g, 0, entry.slot_count);
    if (identity_.file_bytes < needed) {
        refuse_pool(identity_.name, "its object is " + std::to_string(identity_.file_bytes) +
                                        " bytes long and should have " + std::to_string(needed) +
                                        ": it was truncated");
    }
    for_pool(identity_.name,
             [&] { map_->map(fd, g.slots_offset, g.slots_offset, needed - g.slots_offset, true); });
    last_ = entry;
    segments_ = 1;
}

Mapping::~Mapping() {
    if (changing_) {
        static_cast<void>(map_.release());
    }
}

void Mapping::extend(const Fetch& fetch) noexcept {
    changing_ = true;
    try {
        while (segments_ < pool_.segment_count()) {
            const shm::SegmentEntry entry = pool_.read_segment(segments_);
            if (!shm::check_segment_entry(identity_.geometry, segments_, entry, &last_).empty()) {
                break;
            }
            map_segment(segments_, entry, fetch);
            last_ = entry;
            ++segments_;
        }
    } catch (const std::exception&) {
        // Whoever needs the segment finds it missing and says so.
    }
    changing_ = false;
}

void Mapping::map_segment(std::uint32_t number, const shm::SegmentEntry& entry,
                          const Fetch& fetch) {
    // Without a random part there is no name that only the daemon could have given.
    shm::UniqueFd fd = entry.object == 0 ? shm::UniqueFd{}
                                         : open_object(identity_.name, number, entry.object, true);
    if (!fd || !is_segment(fd.get(), identity_, number, entry)) {
        fd = fetch(number);
        if (!fd || !is_segment(fd.get(), identity_, number, entry) ||
            (identity_.sealed && !is_sealed(fd.get()))) {
            throw Error(ENOENT, std::generic_category(), "no such segment");
        }
    }
    const shm::Geometry& g = identity_.geometry;
    const std::uint64_t bytes = shm::segment_file_bytes(g, number, entry.slot_count) - shm::kPage;
    map_->map(fd.get(), shm::kPage, g.offset_of(shm::SlotIndex{entry.first_index}), bytes, true);
}

}  // namespace mempool::detail
