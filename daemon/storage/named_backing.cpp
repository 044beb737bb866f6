#include <fmt/core.h>

#include <utility>

#include "daemon/storage/backing.hpp"
#include "mempool/shm/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

// Objects in /dev/shm, named after the pool. They outlive every process that uses them.
class NamedBacking : public Backing {
public:
    explicit NamedBacking(std::string pool) : pool_(std::move(pool)) {}

    [[nodiscard]] std::string describe(std::uint32_t number) const override {
        return "/dev/shm" + object(number);
    }
    [[nodiscard]] std::vector<std::uint32_t> list() const override { return list_segments(pool_); }
    [[nodiscard]] Space space() const noexcept override { return shm_space(); }
    [[nodiscard]] std::string explain_shortage() const override {
        const Space there = space();
        return fmt::format(
            "in /dev/shm, which has {} of {} free: ask for fewer slots, or enlarge it (mount -o "
            "remount,size=... /dev/shm)",
            there.free, there.size);
    }

    UniqueFd create(std::uint32_t number) override { return create_object(object(number)); }
    UniqueFd open(std::uint32_t number, bool writable) override {
        return open_object(object(number), writable);
    }
    [[nodiscard]] bool is(std::uint32_t number, int fd) const noexcept override {
        return still_named(object(number), fd);
    }
    [[nodiscard]] std::string check(int /*fd*/) const override { return {}; }
    void lock(int fd) override { lock_object(fd, object(0)); }
    void keep(std::uint32_t /*number*/, int /*fd*/) override {}  // its name keeps it

    void remove(std::uint32_t number) noexcept override { remove_object(object(number)); }
    std::string set_aside(std::uint32_t number, std::uint64_t now) override {
        return "set aside as /dev/shm" + mempoold::set_aside(pool_, number, now);
    }

private:
    [[nodiscard]] std::string object(std::uint32_t number) const {
        return shm::object_name(pool_, number);
    }
    std::string pool_;
};

}  // namespace

std::shared_ptr<Backing> make_named_backing(const PoolConfig& config) {
    return std::make_shared<NamedBacking>(config.name);
}

std::shared_ptr<Backing> make_backing(const PoolConfig& config, FdStore* store) {
    return config.backing == PoolConfig::Backing::kMemfd ? make_memfd_backing(config, store)
                                                         : make_named_backing(config);
}

}  // namespace mempoold
