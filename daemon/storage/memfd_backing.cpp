#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>

#include <cerrno>
#include <fstream>
#include <map>
#include <system_error>
#include <utility>

#include "daemon/base/fail.hpp"
#include "daemon/storage/backing.hpp"
#include "mempool/shm/words/names.hpp"

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
    MemfdBacking(std::string pool, FdStore* store, RuntimeDirectory* runtime)
        : pool_(std::move(pool)), store_(store), runtime_(runtime) {
        if (store_ != nullptr) {
            files_ = store_->take(pool_);
        }
    }
    MemfdBacking(const MemfdBacking&) = delete;
    MemfdBacking& operator=(const MemfdBacking&) = delete;
    ~MemfdBacking() override {
        for (auto& [number, fd] : files_) {
            if (store_ != nullptr) {
                store_->put_back(pool_, number, std::move(fd));
            }
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
    [[nodiscard]] bool find() override { return files_.contains(0); }
    [[nodiscard]] std::uint64_t random_part(std::uint32_t /*number*/) const override { return 0; }
    [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> runtime_identity() const override {
        return runtime_ == nullptr ? std::pair<std::uint64_t, std::uint64_t>{}
                                   : runtime_->identity();
    }
    void keep(std::uint32_t number, int fd, const shm::Uuid& uuid) override;
    // The store has no others.
    [[nodiscard]] bool is_kept(std::uint32_t number) const override {
        return files_.contains(number);
    }
    void give_up() noexcept override { files_.clear(); }
    std::string mend_names() override { return {}; }
    void remove(std::uint32_t number) noexcept override {
        files_.erase(number);
        if (store_ != nullptr) {
            store_->forget(pool_, number);
        }
    }
    std::string set_aside(std::uint32_t number, std::uint64_t /*now*/,
                          const std::string& /*reason*/) override {
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
    RuntimeDirectory* runtime_;
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
    return reopen(found->second.get(), writable, describe(number));
}

bool MemfdBacking::is(std::uint32_t number, int fd) const noexcept {
    const auto found = files_.find(number);
    return found != files_.end() && same_file(found->second.get(), fd);
}

void MemfdBacking::keep(std::uint32_t number, int fd, const shm::Uuid& /*uuid*/) {
    if (::fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
        fail(errno, "cannot seal " + describe(number));
    }
    if (store_ != nullptr) {
        store_->keep(pool_, number, files_.at(number).get());
    }
}

}  // namespace

std::shared_ptr<Backing> make_memfd_backing(const PoolConfig& config, FdStore* store,
                                            RuntimeDirectory* runtime) {
    return std::make_shared<MemfdBacking>(config.name, store, runtime);
}

}  // namespace mempoold
