// The daemon killed anywhere while it makes, takes over, sets aside or grows the objects of a pool,
// and a new one that starts with what is there: it serves a whole pool, and nothing that somebody
// could have used is gone.
//
// What a SIGKILL leaves is what stands in /dev/shm. So the child is stepped through once, and each
// time an instruction or a system call has changed a name, a mode, a size or a byte, a copy is
// kept; afterwards a new daemon starts with each copy. Pages that are all zeros come back as holes:
// that they were allocated already is nothing to build on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "crash/scenario.hpp"
#include "crash/stepped.hpp"
#include "daemon/base/log.hpp"
#include "daemon/storage/pool_start.hpp"
#include "mempool/shm/recovery/audit.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/recovery/reclaim.hpp"
#include "mempool/shm/words/pool_index.hpp"
#include "support/daemon_process.hpp"
#include "support/pool_objects.hpp"
#include "support/storage.hpp"

namespace mempool::test {
namespace {

using mempool_test::objects_of;
using mempool_test::remove_pool;
using mempoold::PoolConfig;
using mempoold::Storage;
using mempoold::UniqueFd;

constexpr std::uint64_t kNow = 1'700'000'000;
constexpr std::size_t kPage = 4096;

/// An object in /dev/shm, mapped as it is; shows its bytes and tells whether they changed.
class Object {
public:
    explicit Object(const std::string& name)
        : fd_(::open(("/dev/shm/" + name).c_str(), O_RDONLY | O_CLOEXEC)) {
        struct stat status {};
        if (::fstat(fd_.get(), &status) != 0) {
            throw std::runtime_error("cannot look at " + name);
        }
        mode_ = status.st_mode & 07777U;
        inode_ = status.st_ino;
        bytes_.resize(static_cast<std::size_t>(status.st_size));
        if (!bytes_.empty()) {
            map_ = ::mmap(nullptr, bytes_.size(), PROT_READ, MAP_SHARED, fd_.get(), 0);
            if (map_ == MAP_FAILED) {
                throw std::runtime_error("cannot map " + name);
            }
            std::memcpy(bytes_.data(), map_, bytes_.size());
        }
    }
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    ~Object() {
        if (map_ != nullptr) {
            ::munmap(map_, bytes_.size());
        }
    }

    /// Takes the bytes as they are now; whether they differ from those taken last.
    bool refresh() {
        if (bytes_.empty() || std::memcmp(bytes_.data(), map_, bytes_.size()) == 0) {
            return false;
        }
        std::memcpy(bytes_.data(), map_, bytes_.size());
        return true;
    }
    [[nodiscard]] bool is_as(const Object& other) const {
        return inode_ == other.inode_ && mode_ == other.mode_ && bytes_ == other.bytes_;
    }
    [[nodiscard]] const std::string& bytes() const { return bytes_; }
    [[nodiscard]] mode_t mode() const { return mode_; }
    [[nodiscard]] ino_t inode() const { return inode_; }

private:
    UniqueFd fd_;
    mode_t mode_ = 0;
    ino_t inode_ = 0;
    void* map_ = nullptr;
    std::string bytes_;
};

struct Copy {
    mode_t mode = 0;
    ino_t inode = 0;
    std::string bytes;
};
struct Death {
    std::uint64_t instructions = 0;
    std::map<std::string, Copy> objects;  // by name; the plain name shares its inode with another
    std::string index;
};

class KillDaemonStorage : public Stepped {
protected:
    void SetUp() override {
        Stepped::SetUp();
        mempoold::set_log_level(mempoold::LogLevel::kError);
    }
    void TearDown() override { remove_pool(name_); }

    [[nodiscard]] PoolConfig config() const {
        return mempoold::parse_pool(name_ + ":100x6,max_slots=30,max_clients=2,mode=0640", "test");
    }

    // Runs `work` in the child, then `check` on a /dev/shm as each change of it left it.
    void for_each_death(const std::function<void()>& work,
                        const std::function<std::string()>& check) {
        std::vector<Death> deaths;
        Stepper child([&] {
            work();
            return 0;
        });
        std::map<std::string, std::unique_ptr<Object>> objects = look();
        std::string index = read_index();
        for (bool on = true; on;) {
            const bool system_call = child.at_system_call();
            on = child.step();
            bool changed = deaths.empty();
            if (system_call) {
                auto found = look();
                changed |= !std::equal(found.begin(), found.end(), objects.begin(), objects.end(),
                                       [](const auto& a, const auto& b) {
                                           return a.first == b.first && a.second->is_as(*b.second);
                                       });
                objects = std::move(found);
                std::string written = read_index();
                changed |= written != index;
                index = std::move(written);
            }
            for (const auto& [name, object] : objects) {
                changed |= object->refresh();
            }
            if (changed) {
                Death death{.instructions = child.steps(), .objects = {}, .index = index};
                for (const auto& [name, object] : objects) {
                    death.objects[name] = {
                        .mode = object->mode(), .inode = object->inode(), .bytes = object->bytes()};
                }
                deaths.push_back(std::move(death));
            }
        }
        EXPECT_EQ(child.finish(), 0);
        EXPECT_GT(deaths.size(), 10U);
        for (const Death& death : deaths) {
            restore(death);
            ASSERT_EQ(check(), "") << "killed after " << death.instructions << " instructions";
        }
        const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
        summarize("daemon killed", test->name(), child.steps(), deaths.size(), 0);
    }

    // A new daemon starts; empty if it serves a whole pool and nothing else is there but `aside`
    // objects that it or a former one set aside.
    std::string fault_after_restart(std::vector<std::uint32_t> slots, std::size_t aside) {
        const auto storage = start();
        if (std::find(slots.begin(), slots.end(), storage->slots()) == slots.end()) {
            return std::to_string(storage->slots()) + " slots";
        }
        // As ServedPool does first: the former daemon is dead.
        reclaim(
            storage->view(), [](shm::ClientId c) { return c == shm::kDaemonClient; }, nullptr);
        if (const auto found = shm::audit(storage->view()).findings; !found.empty()) {
            return "the audit: " + shm::test::text_of(found);
        }
        if (shm::count_depot(storage->view()) != storage->slots()) {
            return "not all slots are free";
        }
        const std::size_t objects = objects_of(name_).size();
        if (objects != storage->segments().size() + aside) {
            return std::to_string(objects) + " objects";
        }
        return {};
    }

    // As a daemon of its own: it takes the lock of the runtime directory, and lets go of it when
    // the storage is gone.
    std::shared_ptr<Storage> start() const {
        auto runtime = std::make_shared<mempoold::RuntimeDirectory>(runtime_);
        std::unique_ptr<Storage> storage = start_storage(config(), kNow, nullptr, runtime.get());
        return {storage.release(), [runtime](Storage* held) { delete held; }};
    }

    [[nodiscard]] static std::string path(const std::string& name) { return "/dev/shm/" + name; }

    const std::string name_ = mempool_test::unique_pool("killstorage");

private:
    [[nodiscard]] std::string read_index() const {
        std::ifstream file(runtime_ + "/pools");
        return {std::istreambuf_iterator<char>(file), {}};
    }

    [[nodiscard]] std::map<std::string, std::unique_ptr<Object>> look() const {
        std::map<std::string, std::unique_ptr<Object>> found;
        std::vector<std::string> names = objects_of(name_);
        if (std::filesystem::exists(path("mempool." + name_))) {
            names.push_back("mempool." + name_);
        }
        for (const std::string& name : names) {
            found.emplace(name, std::make_unique<Object>(name));
        }
        return found;
    }

    void restore(const Death& death) const {
        remove_pool(name_);
        std::map<ino_t, std::string> restored;
        for (const auto& [name, copy] : death.objects) {
            const auto [named, first] = restored.emplace(copy.inode, path(name));
            if (!first) {
                std::filesystem::create_hard_link(named->second, path(name));
                continue;
            }
            const UniqueFd fd{
                ::open(path(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, copy.mode)};
            ASSERT_EQ(::fchmod(fd.get(), copy.mode), 0);
            ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(copy.bytes.size())), 0);
            for (std::size_t at = 0; at < copy.bytes.size(); at += kPage) {
                const std::string page = copy.bytes.substr(at, kPage);
                if (page.find_first_not_of('\0') != std::string::npos) {
                    ASSERT_EQ(::pwrite(fd.get(), page.data(), page.size(), static_cast<off_t>(at)),
                              static_cast<ssize_t>(page.size()));
                }
            }
        }
        restore_index(death);
    }

    // The files are others now, under the same names.
    void restore_index(const Death& death) const {
        std::uint32_t bad_lines = 0;
        shm::PoolIndex index = shm::parse_index(death.index, bad_lines);
        for (auto& [pool, known] : index.pools) {
            for (auto& [number, object] : known.objects) {
                struct stat status {};
                const std::string file = shm::object_name(pool, number, object.random).substr(1);
                if (object.inode != 0 && ::stat(path(file).c_str(), &status) == 0) {
                    object.device = status.st_dev;
                    object.inode = status.st_ino;
                }
            }
        }
        std::ofstream(runtime_ + "/pools") << shm::format_index(index);
    }

    const mempool_test::TemporaryDirectory directory_;
    const std::string runtime_ = directory_.path() + "/s.d";
};

TEST_F(KillDaemonStorage, InCreationLeavesNothingInTheWay) {
    for_each_death([&] { start(); }, [&] { return fault_after_restart({6}, 0); });
}

TEST_F(KillDaemonStorage, InGrowthLeavesOldOrNewNeverBetween) {
    const std::uint64_t key = start()->key();
    for_each_death([&] { add_segment(*start(), 7, kNow); },
                   [&]() -> std::string {
                       if (start()->key() != key) {
                           return "another pool took its place";
                       }
                       std::string fault = fault_after_restart({6, 13}, 0);
                       if (!fault.empty()) {
                           return fault;
                       }
                       // The next growth goes on from there, by another number.
                       add_segment(*start(), 5, kNow);
                       return fault_after_restart({11, 18}, 0);
                   });
}

TEST_F(KillDaemonStorage, InSettingAsideKeepsWhatWasThere) {
    start();
    const std::string foreign(3 * kPage, '?');
    {
        const UniqueFd fd{::open(path("mempool." + name_).c_str(), O_RDWR | O_TRUNC | O_CLOEXEC)};
        ASSERT_EQ(::write(fd.get(), foreign.data(), foreign.size()),
                  static_cast<ssize_t>(foreign.size()));
    }
    for_each_death([&] { start(); },
                   [&]() -> std::string {
                       std::string fault = fault_after_restart({6}, 1);
                       if (!fault.empty()) {
                           return fault;
                       }
                       const std::vector<std::string> objects = objects_of(name_);
                       return std::any_of(objects.begin(), objects.end(),
                                          [&](const std::string& name) {
                                              return Object(name).bytes() == foreign;
                                          })
                                  ? ""
                                  : "what was there is gone";
                   });
}

}  // namespace
}  // namespace mempool::test
