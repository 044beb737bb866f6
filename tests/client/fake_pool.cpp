#include "client/fake_pool.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/words/names.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {

using namespace mempool::shm;

namespace {

constexpr std::uint64_t kNow = 1'700'000'000;

void check(int error, const char* what) {
    if (error != 0) {
        throw std::system_error(error, std::generic_category(), what);
    }
}

// Like the daemon's, but not random: the pool's own name is unique.
std::uint64_t random_part(std::uint32_t number) { return 0xabc0U + number; }

}  // namespace

FakePool::FakePool(const FakePoolOptions& options) : name_(unique_pool("fake")) {
    const auto geometry =
        make_geometry({.slot_size = options.slot_size,
                       .max_slots = options.max_slots == 0 ? options.slots : options.max_slots,
                       .magazine_capacity = options.magazine_capacity,
                       .client_count = options.client_count});
    const Geometry& g = geometry.value();
    map_ = std::make_unique<SegmentMap>(g.range_bytes);
    SegmentEntry entry = next_segment(g, 0, options.slots, nullptr, kNow);
    entry.object = random_part(0);
    const std::uint64_t bytes = segment_file_bytes(g, 0, options.slots);
    segments_.push_back(create(0, bytes));
    map_->map(segments_[0].get(), 0, 0, bytes, true);
    pool_ = Pool(map_->base(), g);
    write_header(
        pool_,
        {.name = name_, .uuid = {0x12, 0x34, 0x56, 0x78}, .first_generation = 77, .now = kNow});
    pool_.live().options.store(options.erase_on_put ? kEraseOnPut : 0);
    announce_segment(pool_, 0, entry);
    mark_ready(pool_);
}

FakePool::~FakePool() { remove_pool(name_); }

UniqueFd FakePool::create(std::uint32_t number, std::uint64_t bytes) const {
    UniqueFd fd{::shm_open(object(number).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600)};
    check(fd ? 0 : errno, "shm_open");
    check(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0 ? 0 : errno, "ftruncate");
    return fd;
}

std::string FakePool::object(std::uint32_t number) const {
    return object_name(name_, number, random_part(number));
}

IndexedPool FakePool::indexed() const {
    IndexedPool indexed;
    std::copy(std::begin(pool_.header().uuid), std::end(pool_.header().uuid), indexed.uuid.begin());
    for (std::uint32_t number = 0; number < segments_.size(); ++number) {
        struct stat status {};
        check(::fstat(segment(number), &status) == 0 ? 0 : errno, "fstat");
        indexed.objects[number] = {
            .random = random_part(number), .device = status.st_dev, .inode = status.st_ino};
    }
    return indexed;
}

void FakePool::grow(std::uint32_t slots, bool named) {
    const Geometry& g = pool_.geometry();
    const std::uint32_t number = pool_.segment_count();
    SegmentEntry entry = next_segment(g, number, slots, &pool_.segment(number - 1), kNow + number);
    entry.object = random_part(number);
    UniqueFd fd = create(number, segment_file_bytes(g, number, slots));
    SegmentHeader header{};
    header.magic = kSegmentMagic;
    header.layout_version = kLayoutVersion;
    header.number = number;
    std::copy(std::begin(pool_.header().uuid), std::end(pool_.header().uuid), header.uuid);
    header.entry = entry;
    check(::pwrite(fd.get(), &header, sizeof(header), 0) == sizeof(header) ? 0 : EIO, "pwrite");
    if (!named) {
        ::shm_unlink(object(number).c_str());
    }
    segments_.push_back(std::move(fd));
    announce_segment(pool_, number, entry);
}

void FakePool::hide() { ::shm_unlink(object(0).c_str()); }

void FakePool::truncate(std::uint64_t bytes) const {
    check(::ftruncate(segments_[0].get(), static_cast<off_t>(bytes)) == 0 ? 0 : errno, "ftruncate");
}

int FakePool::segment(std::uint32_t number) const {
    return number < segments_.size() ? segments_[number].get() : -1;
}

std::uint64_t FakePool::file_bytes() const {
    struct stat status {};
    check(::fstat(segment(0), &status) == 0 ? 0 : errno, "fstat");
    return static_cast<std::uint64_t>(status.st_size);
}

std::uint64_t FakePool::free_slots() const {
    const Census census = take_census(pool_);
    return census.free + census.cached;
}

std::uint64_t FakePool::refused() const {
    std::uint64_t refused = 0;
    for (std::uint32_t l = 0; l < pool_.geometry().lane_count; ++l) {
        refused += pool_.lane(mempool::shm::LaneId{l}).refused.load();
    }
    return refused;
}

std::uint32_t FakePool::lanes_in_use() const {
    std::uint32_t lanes = 0;
    for (std::uint32_t l = 1; l < pool_.geometry().lane_count; ++l) {
        const LaneWord word{pool_.lane(LaneId{l}).word.load()};
        lanes += word.state() == LaneState::kOwned ? 1U : 0U;
    }
    return lanes;
}

}  // namespace mempool_test
