#include "metadata.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "connection.hpp"
#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempool::detail {
namespace {

constexpr mode_t kOthersMayWrite = S_IWGRP | S_IWOTH;

/// Did the daemon say nothing, rather than no?
bool is_silence(int error) noexcept {
    return error == ETIMEDOUT || error == ECONNRESET || error == EPIPE || error == ENOTCONN;
}

/// Is what belongs to `uid` as good as the caller's own? Root reads what any daemon's user wrote.
bool is_trusted_uid(uid_t uid) noexcept {
    return uid == 0 || uid == ::geteuid() || ::geteuid() == 0;
}

bool read_whole(int fd, std::uint64_t offset, std::uint64_t bytes, void* to) noexcept {
    auto* at = static_cast<char*>(to);
    while (bytes > 0) {
        const ssize_t got = ::pread(fd, at, bytes, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        at += got;
        bytes -= static_cast<std::uint64_t>(got);
        offset += static_cast<std::uint64_t>(got);
    }
    return true;
}

/// Reads the index in `directory`; false if there is none, which `found.complaint` says nothing of.
bool read_index_in(const std::string& directory, TrustedIndex& found) {
    const shm::UniqueFd at{
        ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    struct stat folder {};
    if (!at || ::fstat(at.get(), &folder) != 0) {
        return false;
    }
    const shm::UniqueFd fd{
        ::openat(at.get(), shm::kIndexFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    struct stat file {};
    if (!fd || ::fstat(fd.get(), &file) != 0) {
        return false;
    }
    const std::string path = directory + '/' + shm::kIndexFile;
    if (!S_ISREG(file.st_mode) || !is_trusted_uid(folder.st_uid) || file.st_uid != folder.st_uid ||
        ((folder.st_mode | file.st_mode) & kOthersMayWrite) != 0 || file.st_size < 0 ||
        static_cast<std::uint64_t>(file.st_size) > shm::kMaxIndexBytes) {
        found.complaint = path +
                          " is not trusted: it and its directory must belong to root or to "
                          "you, and nobody else may write there";
        return true;
    }
    std::string text(static_cast<std::size_t>(file.st_size), '\0');
    if (!read_whole(fd.get(), 0, text.size(), text.data())) {
        found.complaint = path + " cannot be read";
        return true;
    }
    std::uint32_t bad_lines = 0;
    found.index = shm::parse_index(text, bad_lines);
    found.path = path;
    found.owner = "uid " + std::to_string(file.st_uid);
    return true;
}

/// Bytes that the daemon passes.
class DaemonSource : public MetadataSource {
public:
    DaemonSource(std::string_view pool, const AttachOptions& options)
        : pool_(pool), link_(options) {
        link_.limit_waits(kLookPatience);
    }
    /// Whether a daemon is there at all. Throws Error if not.
    void connect() { link_.connect(); }

    std::uint64_t begin() override {
        const shm::Reply reply = link_.call(make_request(shm::RequestKind::kInspect, pool_));
        missing_names_ = shm::text_of(reply.text);
        return shm::payload::of<shm::payload::Inspected>(reply).bytes;
    }
    void read(std::uint64_t offset, std::uint64_t bytes, std::byte* to) override {
        while (bytes > 0) {
            const std::uint64_t part = std::min(bytes, shm::kMaxReadBytes);
            shm::Request request = make_request(shm::RequestKind::kRead, pool_);
            shm::payload::put(request, shm::payload::Read{.offset = offset, .bytes = part});
            if (link_.read(request, to, part) != part) {
                throw Error(EPROTO, std::generic_category(),
                            "mempoold at " + link_.path() +
                                " passed fewer bytes than it was asked for: see its log");
            }
            offset += part;
            bytes -= part;
            to += part;
        }
    }
    [[nodiscard]] bool served() const noexcept override { return true; }
    [[nodiscard]] std::string note() const override { return {}; }
    [[nodiscard]] std::string missing_names() const override { return missing_names_; }

private:
    std::string pool_;
    Connection link_;
    std::string missing_names_;
};

/// Bytes of the object itself.
class FileSource : public MetadataSource {
public:
    FileSource(std::string_view pool, shm::UniqueFd fd, std::string note)
        : pool_(pool), fd_(std::move(fd)), note_(std::move(note)) {}

    std::uint64_t begin() override {
        struct stat status {};
        if (::fstat(fd_.get(), &status) != 0 || status.st_size < 0) {
            throw Error(errno, std::generic_category(), "fstat");
        }
        return static_cast<std::uint64_t>(status.st_size);
    }
    void read(std::uint64_t offset, std::uint64_t bytes, std::byte* to) override {
        if (!read_whole(fd_.get(), offset, bytes, to)) {
            throw Error(EPROTO, std::generic_category(),
                        "pool '" + pool_ + "' cannot be read: its object was truncated");
        }
    }
    [[nodiscard]] bool served() const noexcept override { return false; }
    [[nodiscard]] std::string note() const override { return note_; }
    [[nodiscard]] std::string missing_names() const override {
        struct stat status {};
        return ::fstat(fd_.get(), &status) == 0 && status.st_nlink == 0 ? "the object was removed"
                                                                        : "";
    }

private:
    std::string pool_;
    shm::UniqueFd fd_;
    std::string note_;
};

std::unique_ptr<MetadataSource> find_by_index(std::string_view pool, const std::string& socket,
                                              const std::string& silence) {
    const std::string name(pool);
    const TrustedIndex trusted = read_index(socket);
    const auto found = trusted.index.pools.find(pool);
    if (found == trusted.index.pools.end() || !found->second.finished() ||
        !found->second.objects.contains(0)) {
        throw Error(
            ENOENT, std::generic_category(),
            "pool '" + name + "' cannot be looked at: no mempoold answers (" + silence + "), and " +
                (trusted.path.empty() ? trusted.complaint : trusted.path + " knows no such pool"));
    }
    const shm::IndexedObject& object = found->second.objects.at(0);
    shm::UniqueFd fd = open_indexed(pool, 0, object);
    if (!fd) {
        const int error = errno;
        throw Error(error, std::generic_category(),
                    "pool '" + name + "' cannot be looked at: no mempoold answers (" + silence +
                        "), and /dev/shm" + shm::object_name(pool, 0, object.random) +
                        " cannot be opened" +
                        (error == EACCES ? ", which only root and " + trusted.owner + " may" : ""));
    }
    return std::make_unique<FileSource>(pool, std::move(fd),
                                        "pool '" + name + "' is read from shared memory, by " +
                                            trusted.path + ", which belongs to " + trusted.owner +
                                            " and which nobody else may write: " + silence);
}

}  // namespace

TrustedIndex read_index(const std::string& socket) {
    TrustedIndex found;
    const std::size_t slash = socket.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : socket.substr(0, slash);
    if (!read_index_in(socket + ".d", found) && !read_index_in(folder, found)) {
        found.complaint = "there is no index of pools in " + socket + ".d or " + folder;
    }
    return found;
}

shm::UniqueFd open_indexed(std::string_view pool, std::uint32_t number,
                           const shm::IndexedObject& object) noexcept {
    shm::UniqueFd fd = open_object(pool, number, object.random, false);
    struct stat status {};
    if (fd && ::fstat(fd.get(), &status) == 0 &&
        (status.st_dev != object.device || status.st_ino != object.inode)) {
        errno = ESTALE;
        return {};
    }
    return fd;
}

bool stands(std::string_view pool, std::uint32_t number,
            const shm::IndexedObject& object) noexcept {
    try {
        struct stat status {};
        const std::string path = "/dev/shm" + shm::object_name(pool, number, object.random);
        return ::lstat(path.c_str(), &status) == 0 && status.st_dev == object.device &&
               status.st_ino == object.inode;
    } catch (const std::exception&) {
        return false;
    }
}

std::unique_ptr<MetadataSource> find_source(std::string_view pool, const AttachOptions& options,
                                            LookAt at) {
    if (const std::string fault = shm::check_pool_name(pool); !fault.empty()) {
        throw Error(EINVAL, std::generic_category(), fault);
    }
    const std::string socket = options.socket.empty() ? shm::default_socket_path() : options.socket;
    if (at == LookAt::kMemory) {
        return find_by_index(pool, socket, "mempoold was not asked");
    }
    auto source = std::make_unique<DaemonSource>(pool, options);
    try {
        source->connect();
    } catch (const Error& e) {
        return find_by_index(pool, socket, e.what());
    }
    try {
        source->begin();
        return source;
    } catch (const Error& e) {
        if (!is_silence(e.code().value())) {
            throw;
        }
        return find_by_index(pool, socket, e.what());
    }
}

MetadataCopy::MetadataCopy(std::unique_ptr<MetadataSource> source, std::string_view pool)
    : name_(pool), source_(std::move(source)) {
    read_header();
}

void MetadataCopy::read(std::uint64_t offset, std::uint64_t bytes) {
    source_->read(offset, bytes, memory_->base() + offset);
}

// In whole words of 8 bytes.
void MetadataCopy::read_range(std::uint64_t offset, std::uint64_t bytes) {
    const std::uint64_t from = offset / 8 * 8;
    const std::uint64_t end =
        std::min(shm::round_up(offset + bytes, 8), identity_.geometry.slots_offset);
    if (from < end) {
        read(from, end - from);
    }
}

void MetadataCopy::read_header() {
    const std::uint64_t bytes = source_->begin();
    shm::Header header{};
    if (bytes < sizeof(header)) {
        refuse_pool(name_, "its object is too short");
    }
    source_->read(0, sizeof(header), reinterpret_cast<std::byte*>(&header));
    identity_ = identity_of(header, bytes, name_);
}

void MetadataCopy::refresh() {
    read_header();
    const shm::Geometry& g = identity_.geometry;
    memory_ = std::make_unique<shm::SegmentMap>(g.slots_offset);
    if (::mprotect(memory_->base(), g.slots_offset, PROT_READ | PROT_WRITE) != 0) {
        throw Error(errno, std::generic_category(), "no memory to copy pool '" + name_ + "'");
    }
    pool_ = shm::Pool(memory_->base(), g);
    read(0, g.rings_offset);
    // As old as the table: a segment may be announced while the rest is copied.
    const std::uint32_t count = pool_.segment_count();
    const auto positions = [this, &g] {
        read(g.rings_offset, g.cells_offset - g.rings_offset);
        std::vector<std::pair<std::uint64_t, std::uint64_t>> all;
        shm::for_each_ring(pool_, [&](shm::RingId r) {
            const shm::RingState& ring = pool_.ring_state(r);
            all.emplace_back(ring.head.load(std::memory_order_relaxed),
                             ring.tail.load(std::memory_order_relaxed));
        });
        return all;
    };
    const auto before = positions();
    read(g.cells_offset, g.records_offset - g.cells_offset);
    const auto after = positions();
    stood_still_.clear();
    for (std::size_t r = 0; r < before.size(); ++r) {
        stood_still_.push_back(before[r] == after[r]);
    }
    read(shm::kPage, shm::kPage);
    pool_.live().segment_count.store(count, std::memory_order_relaxed);

    segments_.clear();
    table_fault_.clear();
    for (std::uint32_t k = 0; k < count; ++k) {
        const shm::SegmentEntry entry = pool_.read_segment(k);
        table_fault_ =
            shm::check_segment_entry(g, k, entry, segments_.empty() ? nullptr : &segments_.back());
        if (!table_fault_.empty()) {
            return;
        }
        segments_.push_back(entry);
        for (const shm::FileRange& range : shm::storage_of(g, entry)) {
            read_range(range.offset, range.bytes);
        }
    }
}

const std::vector<shm::SegmentEntry>& MetadataCopy::segments() const {
    if (!table_fault_.empty()) {
        throw Error(EPROTO, std::generic_category(), table_fault_ + ": it was overwritten");
    }
    return segments_;
}

}  // namespace mempool::detail
