#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>

#include <cerrno>
#include <fstream>
#include <map>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/backing.hpp"
#include "mempool/shm/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

// Newer than Debian 12's headers.
constexpr unsigned kMfdNoexecSeal = 8;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Files without a name, whose size is sealed: they live as long as somebody has them open or
// mapped. The service manager keeps a descriptor of each, so that the next daemon gets it back. No
// lock: a second daemon can't come to them.
class MemfdBacking : public Backing {
public:
    MemfdBacking(std::string pool, FdStore* store) : pool_(std::move(pool)), store_(store) {
        if (store_ != nullptr) {
            files_ = store_->take(pool_);
        }
    }

    [[nodiscard]] std::string describe(std::uint32_t number) const override {
        return "memfd:" + name(number);
    }
    [[nodiscard]] std::vector<std::uint32_t> list() const override {
        std::vector<std::uint32_t> numbers;
        for (const auto& [number, fd] : files_) {
            numbers.push_back(number);
        }
        return numbers;
    }
    // No file system bounds a memfd: without this, what is too much would end in the OOM killer.
    [[nodiscard]] Space space() const noexcept override;
    [[nodiscard]] std::string explain_shortage() const override {
        const Space there = space();
        return fmt::format(
            "of memory, of which {} of {} are available: ask for fewer slots, or end what uses it",
            there.free, there.size);
    }

    UniqueFd create(std::uint32_t number) override;
    UniqueFd open(std::uint32_t number, bool writable) override;
    [[nodiscard]] bool is(std::uint32_t number, int fd) const noexcept override;
    [[nodiscard]] std::string check(int fd) const override {
        const int seals = ::fcntl(fd, F_GET_SEALS);
        return seals >= 0 && (seals & kSeals) == kSeals ? "" : "it is no sealed memfd";
    }
    void lock(int /*fd*/) override {}
    void keep(std::uint32_t number, int fd) override;
    void remove(std::uint32_t number) noexcept override {
        files_.erase(number);
        if (store_ != nullptr) {
            store_->forget(pool_, number);
        }
    }
    std::string set_aside(std::uint32_t number, std::uint64_t /*now*/) override {
        for (const std::uint32_t k : list()) {
            if (number == 0 || k == number) {
                remove(k);
            }
        }
        return "given up (who maps it keeps it; a memfd has no name to be kept under)";
    }

private:
    [[nodiscard]] std::string name(std::uint32_t number) const {
        return shm::object_name(pool_, number).substr(1);
    }

    std::string pool_;
    FdStore* store_;
    std::map<std::uint32_t, UniqueFd> files_;
};

Space MemfdBacking::space() const noexcept {
    Space space;
    try {
        std::ifstream meminfo("/proc/meminfo");
        std::string key;
        std::uint64_t kib = 0;
        std::string unit;
        while (meminfo >> key >> kib && std::getline(meminfo, unit)) {
            if (key == "MemTotal:") {
                space.size = kib << 10U;
            } else if (key == "MemAvailable:") {
                space.free = kib << 10U;
            }
        }
    } catch (const std::exception&) {
        return {};
    }
    return space;
}

UniqueFd MemfdBacking::create(std::uint32_t number) {
    if (files_.contains(number)) {
        fail(EEXIST, "cannot create " + describe(number));
    }
    remove(number);  // from the store: one that could not be served may be in it
    const std::string label = name(number);
    UniqueFd fd{::memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | kMfdNoexecSeal)};
    if (!fd && errno == EINVAL) {  // before Linux 6.3
        fd.reset(::memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
    }
    // 0600: who gets a descriptor for reading can't open it anew for writing by /proc/self/fd.
    if (!fd || ::fchmod(fd.get(), 0600) != 0) {
        fail(errno, "cannot create " + describe(number));
    }
    files_[number] = std::move(fd);
    return open(number, true);
}

UniqueFd MemfdBacking::open(std::uint32_t number, bool writable) {
    const auto found = files_.find(number);
    if (found == files_.end()) {
        return {};
    }
    const std::string path = fmt::format("/proc/self/fd/{}", found->second.get());
    UniqueFd fd{::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC)};
    if (!fd) {
        fail(errno, fmt::format("cannot open {} once more by {}", describe(number), path));
    }
    return fd;
}

bool MemfdBacking::is(std::uint32_t number, int fd) const noexcept {
    const auto found = files_.find(number);
    struct stat kept {};
    struct stat opened {};
    return found != files_.end() && ::fstat(found->second.get(), &kept) == 0 &&
           ::fstat(fd, &opened) == 0 && kept.st_dev == opened.st_dev &&
           kept.st_ino == opened.st_ino;
}

void MemfdBacking::keep(std::uint32_t number, int fd) {
    if (::fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
        fail(errno, "cannot seal " + describe(number));
    }
    if (store_ != nullptr) {
        store_->keep(pool_, number, files_.at(number).get());
    }
}

// What stands under the name belongs to a pool that was configured otherwise; tools would take it
// for this one.
void clear_name(const std::string& pool) {
    const std::string object = shm::object_name(pool, 0);
    UniqueFd named;
    try {
        named = open_object(object, true);
    } catch (const std::system_error& e) {
        log_warning("pool '{}': what stands as /dev/shm{} is not looked at: {}", pool, object,
                    e.what());
        return;
    }
    if (named) {
        lock_object(named.get(), object);
        const std::string aside =
            set_aside(pool, 0, static_cast<std::uint64_t>(std::time(nullptr)));
        log_warning(
            "pool '{}' is now made of memfds (backing = memfd); the one there was is set aside as "
            "/dev/shm{}, and its clients keep it among themselves",
            pool, aside);
    }
}

}  // namespace

std::shared_ptr<Backing> make_memfd_backing(const PoolConfig& config, FdStore* store) {
    clear_name(config.name);
    return std::make_shared<MemfdBacking>(config.name, store);
}

}  // namespace mempoold
