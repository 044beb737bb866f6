// What a former daemon left: taken over if it is provably ours, and if no daemon serves it.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/named_backing.hpp"
#include "daemon/storage/storage.hpp"
#include "mempool/shm/wire.hpp"
#include "mempool/shm/words/pool.hpp"

namespace mempoold {

namespace shm = mempool::shm;

namespace {

// Another daemon serves the pool.
class Served : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace

// The object, if it is a regular file of somebody we trust. Opens nothing yet.
std::optional<HeldObject> NamedBacking::take(const std::string& name, std::uint64_t random) const {
    UniqueFd file = look_at_object(name);
    if (!file) {
        return std::nullopt;
    }
    const struct stat status = status_of(file.get());
    if (!S_ISREG(status.st_mode) || !is_trusted(status.st_uid)) {
        log_warning("pool '{}': {} belongs to {} and is no object of this daemon: it is left alone",
                    pool_, path_of(name), describe_user(status.st_uid));
        return std::nullopt;
    }
    return HeldObject(name, random, std::move(file));
}

bool NamedBacking::find() {
    if (runtime_ != nullptr) {
        const auto known = runtime_->index().pools.find(pool_);
        if (known != runtime_->index().pools.end() && take_indexed(known->second)) {
            put_back_nameless();
            return true;
        }
    }
    put_back_nameless();
    refuse_if_served();
    return recover();
}

// What the service manager kept for this pool and is no segment of it, such as memfds.
void NamedBacking::put_back_nameless() noexcept {
    for (auto& [number, fd] : nameless_) {
        store_->put_back(pool_, number, std::move(fd));
    }
    nameless_.clear();
}

bool NamedBacking::take_indexed(const shm::IndexedPool& known) {
    if (!known.finished()) {
        remove_unfinished(known);
        return false;
    }
    for (const auto& [number, object] : known.objects) {
        const bool recorded = object.inode != 0;
        auto held = take(shm::object_name(pool_, number, object.random), object.random);
        if (!held && number == 0 && recorded) {
            held = take(plain_name(), object.random);
        }
        if (held && (!recorded || held->indexed() == object)) {
            const std::string name = shm::object_name(pool_, number, object.random);
            if (held->name() != name && held->link(name) == 0) {
                held = take(name, object.random);
                log_warning("pool '{}': {} had been removed; it has its name back", pool_,
                            path_of(name));
            }
            held_.insert_or_assign(number, std::move(held).value());
        } else {
            take_nameless(number, object);
        }
    }
    if (held_.contains(0)) {
        lock_first(true);
        return true;
    }
    const std::string reason =
        fmt::format("{} was removed or replaced by somebody while no mempoold served the pool",
                    path_of(shm::object_name(pool_, 0, known.objects.begin()->second.random)));
    log_error("pool '{}': {}: a new, empty pool takes its place", pool_, reason);
    while (!held_.empty()) {
        set_aside(held_.begin()->first, static_cast<std::uint64_t>(std::time(nullptr)), reason);
    }
    record([](shm::PoolIndex&, shm::IndexedPool& pool) { pool.objects.clear(); });
    return false;
}

// What the service manager kept because it had lost its name.
void NamedBacking::take_nameless(std::uint32_t number, const shm::IndexedObject& object) {
    const auto kept = nameless_.find(number);
    if (kept == nameless_.end()) {
        return;
    }
    HeldObject held(shm::object_name(pool_, number, object.random), object.random,
                    std::move(kept->second));
    nameless_.erase(kept);
    if (held.indexed() == object) {
        stored_.insert(number);
        held_.insert_or_assign(number, std::move(held));
    } else if (store_ != nullptr) {
        store_->forget(pool_, number);
    }
}

// Its creation was cut off, before anybody could have used it.
void NamedBacking::remove_unfinished(const shm::IndexedPool& known) {
    log_info("pool '{}' is made again: its creation was cut off", pool_);
    for (const auto& [number, object] : known.objects) {
        if (const auto held = take(shm::object_name(pool_, number, object.random), object.random)) {
            held->remove();
            held->remove_link(plain_name());
        }
    }
    record([](shm::PoolIndex&, shm::IndexedPool& pool) { pool.objects.clear(); });
}

// A pool that the plain name stands for, and that a daemon serves, is not ours to double: root and
// its own user can tell. What another user calls by that name stops nobody.
void NamedBacking::refuse_if_served() const {
    const UniqueFd file = look_at_object(plain_name());
    if (!file) {
        return;
    }
    const struct stat status = status_of(file.get());
    if (!S_ISREG(status.st_mode) || (::geteuid() != 0 && status.st_uid != ::geteuid())) {
        return;
    }
    const auto holder = holder_of_lock(status.st_dev, status.st_ino);
    if (holder && (holder->uid == status.st_uid || holder->uid == 0)) {
        fail(EBUSY, fmt::format("{} is served by another mempoold (pid {}, {}): end that one, or "
                                "use another pool name",
                                path_of(plain_name()), holder->pid, describe_user(holder->uid)));
    }
}

// Looks at one file that may be the first segment of a pool that the index does not know. Taken is
// only what belongs to our own user and is a sound pool of that name.
std::optional<NamedBacking::Lost> NamedBacking::look_at_lost(const std::string& name) const {
    const bool plain = name == plain_name();
    UniqueFd file = look_at_object(name);
    if (!file) {
        return std::nullopt;
    }
    const struct stat status = status_of(file.get());
    if (!S_ISREG(status.st_mode) || (status.st_uid != ::geteuid() && status.st_uid != owner_)) {
        return std::nullopt;
    }
    const UniqueFd readable = reopen(file.get(), false, path_of(name));
    shm::Header header{};
    Lost lost;
    std::string fault = "it is too short";
    if (read_at(readable.get(), static_cast<void*>(&header), sizeof(header), 0) == 0 &&
        read_table(readable.get(), lost.table)) {
        // One of the former layout is found too: whether it is in use is to be told.
        fault = is_of_former_layout(header)
                    ? ""
                    : shm::check_header(header, static_cast<std::uint64_t>(status.st_size));
        fault =
            fault.empty() && pool_ != shm::text_of(header.name) ? "it is another pool's" : fault;
    }
    if (!fault.empty()) {
        if (plain) {
            log_warning(
                "pool '{}': {} cannot be taken over: {}. It is left alone; remove it if "
                "nobody needs it",
                pool_, path_of(name), fault);
        }
        return std::nullopt;
    }
    std::copy(std::begin(header.uuid), std::end(header.uuid), lost.uuid.begin());
    lost.created_at = header.created_at;
    lost.ours = std::pair(header.runtime_device, header.runtime_inode) == runtime_identity();
    // The lock on the file may be a client's, and no daemon's then. That of the directory is not.
    if (const auto holder = !lost.ours && header.runtime_inode != 0
                                ? holder_of_lock(header.runtime_device, header.runtime_inode)
                                : std::nullopt) {
        throw Served(
            fmt::format("pool '{}' is served by another mempoold (pid {}, {}): end that "
                        "one, or use another pool name",
                        pool_, holder->pid, describe_user(holder->uid)));
    }
    lost.name = name;
    lost.file = std::move(file);
    return lost;
}

bool NamedBacking::read_table(int fd, Table& table) noexcept {
    return read_at(fd, &table.count, sizeof(table.count),
                   shm::kPage + offsetof(shm::Live, segment_count)) == 0 &&
           read_at(fd, table.entries.data(), sizeof(table.entries), 2 * shm::kPage) == 0;
}

// Whether the object says that it is that segment of that pool. Clients could have written that
// too, but not into an object that is none of theirs.
bool NamedBacking::is_segment(const HeldObject& object, std::uint32_t number,
                              const shm::Uuid& uuid) const {
    const bool known = std::any_of(held_.begin(), held_.end(),
                                   [&](const auto& item) { return item.second.is(object.file()); });
    const struct stat status = status_of(object.file());
    if (known || (status.st_uid != ::geteuid() && status.st_uid != owner_)) {
        return false;
    }
    shm::SegmentHeader header{};
    const UniqueFd readable = object.open(false);
    return readable && read_at(readable.get(), &header, sizeof(header), 0) == 0 &&
           header.magic == shm::kSegmentMagic && header.number == number &&
           std::equal(uuid.begin(), uuid.end(), std::begin(header.uuid));
}

// Takes the objects of segments that the table names and nobody else told of; whether there was
// any. Clients can write into the table, so an object must say by itself what it is.
bool NamedBacking::take_listed(const Table& table, const shm::Uuid& uuid) {
    bool found = false;
    for (std::uint32_t k = 1; k < std::min(table.count, shm::kMaxSegments); ++k) {
        const shm::SegmentEntry& entry = table.entries.at(k);
        if (entry.slot_count == 0 || held_.contains(k)) {
            continue;
        }
        auto held = take(shm::object_name(pool_, k, entry.object), entry.object);
        if (held && is_segment(*held, k, uuid)) {
            held_.insert_or_assign(k, std::move(*held));
            found = true;
        }
    }
    return found;
}

void NamedBacking::record_all(const shm::Uuid& uuid) {
    record([&](shm::PoolIndex&, shm::IndexedPool& pool) {
        pool.uuid = uuid;
        pool.objects.clear();
        for (const auto& [number, held] : held_) {
            pool.objects[number] = held.indexed();
        }
    });
}

// The index does not know the pool: it was lost, or a former release without an index made the
// pool.
bool NamedBacking::recover() {
    std::optional<Lost> best;
    const std::string first = plain_name().substr(1);
    std::error_code error;
    for (std::filesystem::directory_iterator at("/dev/shm", error), end; !error && at != end;
         at.increment(error)) {
        const std::string file = at->path().filename().string();
        // A random part, or none.
        if (file != first &&
            (file.size() != first.size() + 17 || !file.starts_with(first + '.') ||
             file.find_first_not_of("0123456789abcdef", first.size() + 1) != std::string::npos)) {
            continue;
        }
        try {
            auto lost = look_at_lost('/' + file);
            if (lost && (!best || std::pair(lost->ours, lost->created_at) >
                                      std::pair(best->ours, best->created_at))) {
                best = std::move(lost);
            }
        } catch (const Served& e) {
            fail(EBUSY, e.what());
        } catch (const std::system_error& e) {
            log_warning("pool '{}': {}", pool_, e.what());
        }
    }
    if (!best) {
        return false;
    }
    const std::uint64_t random = best->table.entries[0].object;
    held_.insert_or_assign(0, HeldObject(best->name, random, std::move(best->file)));
    lock_first(false);
    if (const std::string name = shm::object_name(pool_, 0, random); name != best->name) {
        if (auto named = take(name, random); named && named->is(held_.at(0).file())) {
            held_.insert_or_assign(0, std::move(*named));
        }
    }
    take_listed(best->table, best->uuid);
    if (runtime_ != nullptr) {
        log_warning(
            "pool '{}': the index in {} does not know it; found as {}, which belongs "
            "to this daemon's user and which no mempoold serves",
            pool_, runtime_->path(), describe(0));
    }
    record_all(best->uuid);
    return true;
}

// The lock on the file itself keeps a daemon with another runtime directory away. What the index
// knows is ours already: there a lock that some client took stops nobody.
void NamedBacking::lock_first(bool indexed) {
    const HeldObject& first = held_.at(0);
    lock_ = first.open(true);
    locked_ = ::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0;
    if (locked_) {
        return;
    }
    if (errno != EWOULDBLOCK) {
        fail(errno, "cannot lock " + path_of(first.name()));
    }
    const struct stat status = status_of(lock_.get());
    const auto holder = holder_of_lock(status.st_dev, status.st_ino);
    const bool client = holder && holder->uid != 0 && holder->uid != ::geteuid();
    if (indexed && first.random() != 0 && (client || !holder)) {
        log_warning("pool '{}': {} has a lock on it of {}, which is not needed here", pool_,
                    path_of(first.name()),
                    holder ? fmt::format("pid {} ({})", holder->pid, describe_user(holder->uid))
                           : "a process that cannot be seen");
        return;
    }
    put_back_stored();
    held_.clear();
    lock_.reset();
    fail(EBUSY,
         fmt::format("pool '{}' is served by another mempoold ({}): end that one, or use "
                     "another pool name",
                     pool_,
                     holder ? fmt::format("pid {}, {}", holder->pid, describe_user(holder->uid))
                            : "in a pid namespace that this one cannot look into"));
}

}  // namespace mempoold
