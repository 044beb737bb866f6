// Segments as named objects in /dev/shm, which outlive every process that uses them.
//
// Their names have an unforeseeable part, and which are this daemon's stands in the index of its
// runtime directory. Nothing is opened that is neither in the index nor provably ours, and nothing
// is judged, renamed or removed without the lock: of the runtime directory for what the index
// knows, else of the object itself. HeldObject is the one type that can rename and remove,
// and only take(), take_nameless() and create() make one.
//
// named_backing_find.cpp finds what a former daemon left, named_backing.cpp makes, keeps and
// mends. Internal to storage/.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/storage/backing.hpp"
#include "daemon/storage/held_object.hpp"
#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempoold {

class NamedBacking : public Backing {
public:
    NamedBacking(const PoolConfig& config, FdStore* store, RuntimeDirectory* runtime)
        : pool_(config.name), owner_(config.owner), store_(store), runtime_(runtime) {
        if (store_ != nullptr) {
            nameless_ = store_->take(pool_);
        }
    }
    NamedBacking(const NamedBacking&) = delete;
    NamedBacking& operator=(const NamedBacking&) = delete;
    ~NamedBacking() override;

    [[nodiscard]] std::string describe(std::uint32_t number) const override {
        const auto found = held_.find(number);
        return path_of(found == held_.end() ? mempool::shm::object_name(pool_, number)
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
    void keep(std::uint32_t number, int fd, const mempool::shm::Uuid& uuid) override;
    [[nodiscard]] bool is_kept(std::uint32_t number) const override;
    void give_up() noexcept override {
        lock_.reset();
        stored_.clear();
    }

    void remove(std::uint32_t number) noexcept override;
    std::string set_aside(std::uint32_t number, std::uint64_t now,
                          const std::string& reason) override;
    std::string mend_names() override;

private:
    // What the first segment says of all.
    struct Table {
        std::uint32_t count = 0;
        std::array<mempool::shm::SegmentEntry, mempool::shm::kMaxSegments> entries{};
    };
    // A pool that the index does not know.
    struct Lost {
        std::string name;
        UniqueFd file;
        mempool::shm::Uuid uuid{};
        std::uint64_t created_at = 0;
        bool ours = false;  // made by a daemon of this runtime directory
        Table table;
    };

    [[nodiscard]] std::string plain_name() const { return mempool::shm::object_name(pool_, 0); }
    [[nodiscard]] bool is_trusted(uid_t uid) const noexcept {
        return uid == ::geteuid() || uid == 0 || uid == owner_;
    }

    [[nodiscard]] std::optional<HeldObject> take(const std::string& name,
                                                 std::uint64_t random) const;
    bool take_indexed(const mempool::shm::IndexedPool& known);
    void take_nameless(std::uint32_t number, const mempool::shm::IndexedObject& object);
    void put_back_nameless() noexcept;
    void put_back_stored() noexcept;
    void remove_unfinished(const mempool::shm::IndexedPool& known);
    [[nodiscard]] std::optional<Lost> look_at_lost(const std::string& name) const;
    bool recover();
    static bool read_table(int fd, Table& table) noexcept;
    bool take_listed(const Table& table, const mempool::shm::Uuid& uuid);
    [[nodiscard]] bool is_segment(const HeldObject& object, std::uint32_t number,
                                  const mempool::shm::Uuid& uuid) const;
    void record_all(const mempool::shm::Uuid& uuid);
    void refuse_if_served() const;
    void lock_first(bool indexed);
    std::string mend_name(std::uint32_t number, HeldObject& held);
    std::string mend_plain();

    // Changes what the index says about the pool; without an index nothing.
    template <typename Change>
    void record(Change change) {
        if (runtime_ != nullptr) {
            runtime_->update([&](mempool::shm::PoolIndex& index) {
                mempool::shm::IndexedPool& pool = index.pools[pool_];
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
    std::map<std::uint32_t, HeldObject> held_;
    std::map<std::uint32_t, UniqueFd> nameless_;  // what the service manager kept
    std::set<std::uint32_t> stored_;              // what the service manager keeps
    std::set<std::uint32_t> complained_;          // of names that are gone
    bool had_plain_ = false;
    bool complained_of_plain_ = false;
};

}  // namespace mempoold
