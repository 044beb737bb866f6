#include "support/pool_objects.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace mempool_test {

namespace {

const std::filesystem::path kDirectory = "/dev/shm";

// Whoever asked for a name first; a forked child inherits it and must not clean up after its
// parent.
struct Registry {
    pid_t owner = ::getpid();
    std::vector<std::string> pools;
    Registry() = default;
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;
    ~Registry() {
        if (::getpid() == owner) {
            std::for_each(pools.begin(), pools.end(), remove_pool);
        }
    }
};

}  // namespace

std::string unique_pool(const std::string& stem) {
    static Registry registry;
    const char* const tag = std::getenv("MEMPOOL_TEST_TAG");
    std::string name = stem + (tag != nullptr ? std::string("-") + tag : "") + "-" +
                       std::to_string(::getpid()) + "-" + std::to_string(registry.pools.size());
    registry.pools.push_back(name);
    return name;
}

std::vector<std::string> objects_of(const std::string& pool) {
    const std::string first = "mempool." + pool;
    std::vector<std::string> found;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(kDirectory, ignored)) {
        const std::string name = entry.path().filename();
        if (name == first || name.rfind(first + ".", 0) == 0) {
            found.push_back(name);
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

void remove_pool(const std::string& pool) {
    std::error_code ignored;
    for (const std::string& name : objects_of(pool)) {
        std::filesystem::remove_all(kDirectory / name, ignored);
    }
}

}  // namespace mempool_test
