// Making, keeping and removing named objects, and seeing to it that they keep their names.
#include "daemon/storage/named_backing.hpp"

#include <fmt/core.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"

namespace mempoold {

namespace shm = mempool::shm;

namespace {

constexpr std::size_t kMostNotes = 100;

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

}  // namespace

NamedBacking::~NamedBacking() {
    put_back_nameless();
    put_back_stored();
}

// What the service manager keeps waits for the next who looks for this pool.
void NamedBacking::put_back_stored() noexcept {
    for (const std::uint32_t number : std::exchange(stored_, {})) {
        if (const auto found = held_.find(number); found != held_.end()) {
            store_->put_back(pool_, number, std::move(found->second).take_file());
            held_.erase(found);
        }
    }
}

UniqueFd NamedBacking::create(std::uint32_t number) {
    if (held_.contains(number)) {
        fail(EEXIST, "cannot create " + describe(number));
    }
    for (int attempt = 0;; ++attempt) {
        const std::uint64_t random = random_number();
        const std::string name = shm::object_name(pool_, number, random);
        // The index first: what a daemon that dies here leaves is known to be its own.
        record([&](shm::PoolIndex&, shm::IndexedPool& pool) {
            pool.objects[number] = {.random = random, .device = 0, .inode = 0};
        });
        try {
            held_.insert_or_assign(number, HeldObject(name, random, create_object(name)));
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
        }
    }
}

void NamedBacking::keep(std::uint32_t number, int /*fd*/, const shm::Uuid& uuid) {
    record([&](shm::PoolIndex&, shm::IndexedPool& pool) {
        pool.uuid = uuid;
        pool.objects[number] = held_.at(number).indexed();
    });
    if (number == 0) {
        mend_plain();
    }
}

// What the index doesn't say yet is being made, or was when its daemon died.
bool NamedBacking::is_kept(std::uint32_t number) const {
    if (runtime_ == nullptr) {
        return held_.contains(number);
    }
    const auto pool = runtime_->index().pools.find(pool_);
    if (pool == runtime_->index().pools.end()) {
        return false;
    }
    const auto object = pool->second.objects.find(number);
    return object != pool->second.objects.end() && object->second.inode != 0;
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
        HeldObject held = std::move(at->second);
        held_.erase(at);
        const bool stored = stored_.erase(k) != 0;
        const bool named = held.named();
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
        if (k == 0) {
            held.remove_link(plain_name());
        }
        if (stored) {
            store_->forget(pool_, k);
        }
        if (named && first.empty()) {
            first = held.name();
        }
        record([&](shm::PoolIndex& index, shm::IndexedPool& pool) {
            pool.objects.erase(k);
            if (!named) {
                return;
            }
            if (index.aside.size() >= kMostNotes) {
                index.aside.erase(index.aside.begin());
            }
            index.aside.push_back({held.name().substr(1), reason});
        });
    }
    if (number == 0) {
        lock_.reset();
    }
    if (first.empty()) {
        return "given up, since its name is gone (its clients keep it)";
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
    const std::string fault = mend_plain();
    return missing + (missing.empty() || fault.empty() ? fault : "; " + fault);
}

// Empty if the segment has its name.
std::string NamedBacking::mend_name(std::uint32_t number, HeldObject& held) {
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
    if (first == held_.end()) {
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
