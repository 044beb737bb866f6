// Segments as named objects in /dev/shm, which outlive every process that uses them.
//
// Their names have an unforeseeable part, and which are this daemon's stands in the index of its
// runtime directory. Nothing is opened that is neither in the index nor provably ours, and nothing
// is judged, renamed or removed without the lock: of the runtime directory for what the index
// knows, else of the object itself. Held is the one type that can rename and remove, and only
// take() and create() make one.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/backing.hpp"
#include "mempool/shm/names.hpp"
#include "mempool/shm/pool.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

constexpr std::size_t kMostNotes = 100;

// One object of ours, under the name it has or had.
class Held {
public:
    Held(std::string name, std::uint64_t random, UniqueFd file)
        : name_(std::move(name)), random_(random), file_(std::move(file)) {}

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::uint64_t random() const noexcept { return random_; }
    [[nodiscard]] int file() const noexcept { return file_.get(); }
    [[nodiscard]] bool is(int fd) const noexcept { return same_file(file(), fd); }
    [[nodiscard]] bool named() const noexcept { return still_named(name_, file()); }
    [[nodiscard]] UniqueFd open(bool writable) const {
        return reopen(file(), writable, path_of(name_));
    }
    [[nodiscard]] shm::IndexedObject indexed() const {
        const struct stat status = status_of(file());
        return {.random = random_, .device = status.st_dev, .inode = status.st_ino};
    }

    // Each does nothing to what stands under the name by now if that is another file.
    void remove() const noexcept {
        if (named()) {
            ::unlink(path_of(name_).c_str());
        }
    }
    void remove_link(const std::string& other) const noexcept {
        if (still_named(other, file())) {
            ::unlink(path_of(other).c_str());
        }
    }
    // 0 or errno.
    [[nodiscard]] int rename(const std::string& to) {
        if (named() && ::renameat2(AT_FDCWD, path_of(name_).c_str(), AT_FDCWD, path_of(to).c_str(),
                                   RENAME_NOREPLACE) != 0) {
            return errno;
        }
        name_ = to;
        return 0;
    }
    // Gives the file one name more; 0 or errno.
    [[nodiscard]] int link(const std::string& to) const noexcept {
        const std::string from = fmt::format("/proc/self/fd/{}", file());
        return ::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path_of(to).c_str(), AT_SYMLINK_FOLLOW) ==
                       0
                   ? 0
                   : errno;
    }

private:
    std::string name_;
    std::uint64_t random_;
    UniqueFd file_;  // perhaps O_PATH
};

std::uint64_t random_number() {
    std::uint64_t number = 0;
    while (number == 0) {
        if (::getrandom(&number, sizeof(number), 0) != static_cast<ssize_t>(sizeof(number))) {
            fail(errno, "getrandom");
        }
    }
    return number;
}

std::string time_stamp(std::uint64_t now) {
    const auto seconds = static_cast<std::time_t>(now);
    std::tm utc{};
    ::gmtime_r(&seconds, &utc);
    std::array<char, 32> stamp{};
    std::strftime(stamp.data(), stamp.size(), "%Y%m%dT%H%M%S", &utc);
    return stamp.data();
}

// Another daemon serves the pool.
class Served : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class NamedBacking : public Backing {
public:
    NamedBacking(const PoolConfig& config, FdStore* store, RuntimeDirectory* runtime)
        : pool_(config.name), owner_(config.owner), store_(store), runtime_(runtime) {
        if (store_ != nullptr) {
            nameless_ = store_->take(pool_);
        }
    }

    [[nodiscard]] std::string describe(std::uint32_t number) const override {
        const auto found = held_.find(number);
        return path_of(found == held_.end() ? shm::object_name(pool_, number)
                                            : found->second.name());
    }
    [[nodiscard]] std::vector<std::uint32_t> list() const override {
        std::vector<std::uint32_t> numbers;
        for (const auto& [number, held] : held_) {
            numbers.push_back(number);
        }
        return numbers;
    }
    [[nodiscard]] Space space() const noexcept override { return shm_space(); }
    [[nodiscard]] std::string explain_shortage() const override {
        const Space there = space();
        return fmt::format(
            "in /dev/shm, which has {} of {} free: ask for fewer slots, or enlarge it (mount -o "
            "remount,size=... /dev/shm)",
            there.free, there.size);
    }

    bool find() override;
    UniqueFd create(std::uint32_t number) override;
    UniqueFd open(std::uint32_t number, bool writable) override {
        const auto found = held_.find(number);
        return found == held_.end() ? UniqueFd{} : found->second.open(writable);
    }
    [[nodiscard]] bool is(std::uint32_t number, int fd) const noexcept override {
        const auto found = held_.find(number);
        return found != held_.end() && found->second.is(fd);
    }
    [[nodiscard]] std::uint64_t random_part(std::uint32_t number) const override {
        const auto found = held_.find(number);
        return found == held_.end() ? 0 : found->second.random();
    }
    [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> runtime_identity() const override {
        return runtime_ == nullptr ? std::pair<std::uint64_t, std::uint64_t>{}
                                   : runtime_->identity();
    }
    [[nodiscard]] std::string check(int /*fd*/) const override { return {}; }
    void keep(std::uint32_t number, int fd, const shm::Uuid& uuid) override;
    [[nodiscard]] bool is_kept(std::uint32_t number) const override {
        return kept_.contains(number);
    }
    void give_up() noexcept override { lock_.reset(); }

    void remove(std::uint32_t number) noexcept override;
    std::string set_aside(std::uint32_t number, std::uint64_t now,
                          const std::string& reason) override;
    std::string mend_names() override;

private:
    // What the first segment says of all.
    struct Table {
        std::uint32_t count = 0;
        std::array<shm::SegmentEntry, shm::kMaxSegments> entries{};
    };
    // A pool that the index does not know.
    struct Lost {
        std::string name;
        UniqueFd file;
        shm::Uuid uuid{};
        std::uint64_t created_at = 0;
        bool ours = false;  // made by a daemon of this runtime directory
        Table table;
    };

    [[nodiscard]] std::string plain_name() const { return shm::object_name(pool_, 0); }
    [[nodiscard]] bool is_trusted(uid_t uid) const noexcept {
        return uid == ::geteuid() || uid == 0 || uid == owner_;
    }

    [[nodiscard]] std::optional<Held> take(const std::string& name, std::uint64_t random) const;
    bool take_indexed(const shm::IndexedPool& known);
    void take_unindexed(const shm::IndexedPool& known);
    void take_nameless(std::uint32_t number, const shm::IndexedObject& object);
    void drop_nameless();
    void remove_unfinished(const shm::IndexedPool& known);
    [[nodiscard]] std::optional<Lost> look_at_lost(const std::string& name) const;
    bool recover();
    static bool read_table(int fd, Table& table) noexcept;
    bool take_listed(const Table& table);
    void record_all(const shm::Uuid& uuid);
    void refuse_if_served() const;
    void lock_first(bool indexed);
    std::string mend_name(std::uint32_t number, Held& held);
    std::string mend_plain();

    // Changes what the index says about the pool; without an index nothing.
    template <typename Change>
    void record(Change change) {
        if (runtime_ != nullptr) {
            runtime_->update([&](shm::PoolIndex& index) {
                shm::IndexedPool& pool = index.pools[pool_];
                change(index, pool);
                if (pool.objects.empty()) {
                    index.pools.erase(pool_);
                }
            });
        }
    }
    void forget(std::uint32_t number) noexcept;

    std::string pool_;
    std::optional<uid_t> owner_;
    FdStore* store_;
    RuntimeDirectory* runtime_;
    UniqueFd lock_;  // of segment 0's file, a description that nobody else gets
    bool locked_ = false;
    std::map<std::uint32_t, Held> held_;
    std::map<std::uint32_t, UniqueFd> nameless_;  // what the service manager kept
    std::set<std::uint32_t> stored_;              // what the service manager keeps
    std::set<std::uint32_t> kept_;                // whole, so that somebody may use it
    std::set<std::uint32_t> complained_;          // of names that are gone
    bool had_plain_ = false;
    bool complained_of_plain_ = false;
};

// The object, if it is a regular file of somebody we trust. Opens nothing yet.
std::optional<Held> NamedBacking::take(const std::string& name, std::uint64_t random) const {
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
    return Held(name, random, std::move(file));
}

bool NamedBacking::find() {
    if (runtime_ != nullptr) {
        const auto known = runtime_->index().pools.find(pool_);
        if (known != runtime_->index().pools.end() && take_indexed(known->second)) {
            drop_nameless();
            return true;
        }
    }
    drop_nameless();
    refuse_if_served();
    return recover();
}

// What the service manager kept for this pool and is no segment of it, such as memfds.
void NamedBacking::drop_nameless() {
    if (!nameless_.empty()) {
        log_warning(
            "pool '{}': {} descriptors that the service manager kept for it are none of "
            "its segments as it is configured now, and are given up; clients that are "
            "attached keep that memory among themselves",
            pool_, nameless_.size());
    }
    for (const auto& [number, fd] : nameless_) {
        store_->forget(pool_, number);
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
        for (const auto& [number, object] : known.objects) {
            if (object.inode != 0) {
                kept_.insert(number);
            }
        }
        take_unindexed(known);
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

// A release without an index served the pool in between and made it grow.
void NamedBacking::take_unindexed(const shm::IndexedPool& known) {
    Table table;
    const UniqueFd readable = held_.at(0).open(false);
    if (!read_table(readable.get(), table)) {
        return;
    }
    for (const auto& [number, object] : known.objects) {
        table.entries.at(number) = {};  // of these the index says more
    }
    if (take_listed(table)) {
        log_warning("pool '{}': the index in {} did not know all of its segments; it does now",
                    pool_, runtime_->path());
        record_all(known.uuid);
    }
}

// What the service manager kept because it had lost its name.
void NamedBacking::take_nameless(std::uint32_t number, const shm::IndexedObject& object) {
    const auto kept = nameless_.find(number);
    if (kept == nameless_.end()) {
        return;
    }
    Held held(shm::object_name(pool_, number, object.random), object.random,
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
        fault = shm::check_header(header, static_cast<std::uint64_t>(status.st_size));
        fault = fault.empty() && pool_ != header.name ? "it is another pool's" : fault;
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

// Takes the objects of segments that the table names and nobody else told of; whether there was
// any. Clients can write into the table: what is in an object is judged by whoever opens it.
bool NamedBacking::take_listed(const Table& table) {
    bool found = false;
    for (std::uint32_t k = 1; k < std::min(table.count, shm::kMaxSegments); ++k) {
        const shm::SegmentEntry& entry = table.entries.at(k);
        if (entry.slot_count == 0 || held_.contains(k)) {
            continue;
        }
        if (auto held = take(shm::object_name(pool_, k, entry.object), entry.object)) {
            held_.insert_or_assign(k, std::move(*held));
            kept_.insert(k);
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

// The index does not know the pool: it was lost, or a release without an index made the pool.
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
    held_.insert_or_assign(0, Held(best->name, random, std::move(best->file)));
    lock_first(false);
    if (const std::string name = shm::object_name(pool_, 0, random); name != best->name) {
        if (auto named = take(name, random); named && named->is(held_.at(0).file())) {
            held_.insert_or_assign(0, std::move(*named));
        }
    }
    kept_.insert(0);
    take_listed(best->table);
    if (runtime_ != nullptr) {
        log_warning(
            "pool '{}': the index in {} does not know it; taken over from {}, which belongs "
            "to this daemon's user and which no mempoold serves",
            pool_, runtime_->path(), describe(0));
    }
    record_all(best->uuid);
    return true;
}

// The lock on the file itself keeps a daemon with another runtime directory away. What the index
// knows is ours already: there a lock that some client took stops nobody.
void NamedBacking::lock_first(bool indexed) {
    const Held& first = held_.at(0);
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
    held_.clear();
    lock_.reset();
    fail(EBUSY,
         fmt::format("pool '{}' is served by another mempoold ({}): end that one, or use "
                     "another pool name",
                     pool_,
                     holder ? fmt::format("pid {}, {}", holder->pid, describe_user(holder->uid))
                            : "in a pid namespace that this one cannot look into"));
}

UniqueFd NamedBacking::create(std::uint32_t number) {
    if (held_.contains(number)) {
        fail(EEXIST, "cannot create " + describe(number));
    }
    const bool plain = number != 0 && random_part(0) == 0;
    for (int attempt = 0;; ++attempt) {
        const std::uint64_t random = plain ? 0 : random_number();
        const std::string name = shm::object_name(pool_, number, random);
        // The index first: what a daemon that dies here leaves is known to be its own.
        record([&](shm::PoolIndex&, shm::IndexedPool& pool) {
            pool.objects[number] = {.random = random, .device = 0, .inode = 0};
        });
        try {
            held_.insert_or_assign(number, Held(name, random, create_object(name)));
            if (number == 0) {
                lock_first(true);
            }
            return open(number, true);
        } catch (const std::system_error& e) {
            if (held_.contains(number)) {
                remove(number);
                throw;
            }
            forget(number);
            if (e.code() != std::errc::file_exists || attempt >= 100) {
                throw;
            }
            if (plain) {
                const UniqueFd there = look_at_object(name);
                fail(EEXIST,
                     fmt::format("cannot create {}: what stands there belongs to {}; remove it as "
                                 "its owner or root, or begin a new pool under another name",
                                 path_of(name),
                                 there ? describe_user(status_of(there.get()).st_uid) : "nobody"));
            }
        }
    }
}

void NamedBacking::keep(std::uint32_t number, int /*fd*/, const shm::Uuid& uuid) {
    record([&](shm::PoolIndex&, shm::IndexedPool& pool) {
        pool.uuid = uuid;
        pool.objects[number] = held_.at(number).indexed();
    });
    kept_.insert(number);
    if (number == 0) {
        mend_plain();
    }
}

void NamedBacking::forget(std::uint32_t number) noexcept {
    try {
        record([&](shm::PoolIndex&, shm::IndexedPool& pool) { pool.objects.erase(number); });
    } catch (const std::exception& e) {
        log_warning("pool '{}': {}", pool_, e.what());
    }
}

void NamedBacking::remove(std::uint32_t number) noexcept {
    if (const auto found = held_.find(number); found != held_.end()) {
        found->second.remove();
        if (number == 0) {
            found->second.remove_link(plain_name());
        }
        held_.erase(found);
    }
    kept_.erase(number);
    if (store_ != nullptr && stored_.erase(number) != 0) {
        store_->forget(pool_, number);
    }
    forget(number);
}

std::string NamedBacking::set_aside(std::uint32_t number, std::uint64_t now,
                                    const std::string& reason) {
    const std::string base = plain_name() + ".aside-" + time_stamp(now);
    std::string to = base;
    std::string first;
    while (number == 0 ? !held_.empty() : held_.contains(number)) {
        const auto at = number == 0 ? held_.begin() : held_.find(number);
        const std::uint32_t k = at->first;
        Held held = std::move(at->second);
        held_.erase(at);
        kept_.erase(k);
        if (k == 0) {
            held.remove_link(plain_name());
        }
        const auto name = [&] { return k == 0 ? to : fmt::format("{}.{}", to, k); };
        int error = held.rename(name());
        for (int attempt = 2; error == EEXIST && attempt <= 100; ++attempt) {
            to = fmt::format("{}-{}", base, attempt);
            error = held.rename(name());
        }
        if (error != 0) {
            fail(error,
                 fmt::format("cannot rename {} to {}", path_of(held.name()), path_of(name())));
        }
        first = first.empty() ? held.name() : first;
        record([&](shm::PoolIndex& index, shm::IndexedPool& pool) {
            pool.objects.erase(k);
            if (index.aside.size() >= kMostNotes) {
                index.aside.erase(index.aside.begin());
            }
            index.aside.push_back({held.name().substr(1), reason});
        });
    }
    if (number == 0) {
        lock_.reset();
    }
    return "set aside as " + path_of(first) +
           " (its clients keep it; remove it once nobody needs what is in it)";
}

std::string NamedBacking::mend_names() {
    std::string missing;
    // A client had the lock when this daemon began: it is needed by whoever looks for it later.
    if (lock_ && !locked_ && ::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) {
        locked_ = true;
    }
    for (auto& [number, held] : held_) {
        const std::string fault = mend_name(number, held);
        missing += missing.empty() || fault.empty() ? fault : "; " + fault;
    }
    const std::string fault = random_part(0) == 0 ? std::string() : mend_plain();
    return missing + (missing.empty() || fault.empty() ? fault : "; " + fault);
}

// Empty if the segment has its name.
std::string NamedBacking::mend_name(std::uint32_t number, Held& held) {
    if (held.named()) {
        complained_.erase(number);
        return {};
    }
    const std::string path = path_of(held.name());
    const int error = held.link(held.name());
    if (error == 0) {
        log_warning(
            "pool '{}': {} was removed by somebody (RemoveIPC= of systemd-logind, a cleaner "
            "of /dev/shm, rm?); it has its name back",
            pool_, path);
        return {};
    }
    if (complained_.insert(number).second) {
        bool kept = stored_.contains(number);
        try {
            if (store_ != nullptr && has_service_manager() && !stored_.contains(number)) {
                store_->keep(pool_, number, held.open(true).get());
                stored_.insert(number);
                kept = true;
            }
        } catch (const std::system_error& e) {
            log_warning("pool '{}': {}", pool_, e.what());
        }
        log_error(
            "pool '{}': {} was removed by somebody and cannot get its name back ({}). The pool "
            "goes "
            "on for those who are attached and those who attach; {}",
            pool_, path, std::generic_category().message(error),
            kept ? "the service manager keeps it for the next mempoold"
                 : "it ends with this mempoold, so plan a restart of all its users");
    }
    return path + (error == EEXIST ? " stands for another file" : " was removed");
}

// The plain name is a courtesy to people who look into /dev/shm: no program goes by it.
std::string NamedBacking::mend_plain() {
    const auto first = held_.find(0);
    if (first == held_.end() || first->second.name() == plain_name()) {
        return {};
    }
    const std::string path = path_of(plain_name());
    if (still_named(plain_name(), first->second.file())) {
        had_plain_ = true;
        complained_of_plain_ = false;
        return {};
    }
    const int error = first->second.link(plain_name());
    if (error == 0) {
        if (had_plain_) {
            log_warning(
                "pool '{}': {} was removed by somebody (RemoveIPC= of systemd-logind, a "
                "cleaner of /dev/shm, rm?); it is there again",
                pool_, path);
        }
        had_plain_ = true;
        return {};
    }
    if (error == ENOENT) {
        return {};  // the file has no name at all: told already
    }
    struct stat there {};
    const bool taken = ::lstat(path.c_str(), &there) == 0;
    std::string fault =
        taken ? fmt::format("{} belongs to {}", path, describe_user(there.st_uid))
              : fmt::format("{} cannot be made ({})", path, std::generic_category().message(error));
    if (!complained_of_plain_) {
        complained_of_plain_ = true;
        log_warning(
            "pool '{}': {}, and is left alone; the pool is served as {} all the same. To "
            "give it the plain name, remove what stands there as its owner or root",
            pool_, fault, path_of(first->second.name()));
    }
    return fault;
}

}  // namespace

std::shared_ptr<Backing> make_named_backing(const PoolConfig& config, FdStore* store,
                                            RuntimeDirectory* runtime) {
    return std::make_shared<NamedBacking>(config, store, runtime);
}

std::shared_ptr<Backing> make_backing(const PoolConfig& config, FdStore* store,
                                      RuntimeDirectory* runtime) {
    return config.backing == PoolConfig::Backing::kMemfd
               ? make_memfd_backing(config, store, runtime)
               : make_named_backing(config, store, runtime);
}

}  // namespace mempoold
