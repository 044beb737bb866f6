#include "support/pool_objects.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mempool/shm/words/layout.hpp>
#include <mempool/shm/words/unique_fd.hpp>
#include <sstream>
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

std::vector<std::string> names_of(const std::string& pool) {
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

}  // namespace

std::string unique_pool(const std::string& stem) {
    static Registry registry;
    const char* const tag = std::getenv("MEMPOOL_TEST_TAG");
    const std::string name = stem + (tag != nullptr ? std::string("-") + tag : "") + "-" +
                             std::to_string(::getpid()) + "-" +
                             std::to_string(registry.pools.size());
    registry.pools.push_back(name);
    return name;
}

std::vector<std::string> objects_of(const std::string& pool) {
    std::vector<std::string> found = names_of(pool);
    const std::filesystem::path plain = kDirectory / ("mempool." + pool);
    struct stat first {};
    if (::lstat(plain.c_str(), &first) == 0) {
        const bool twice = std::any_of(found.begin(), found.end(), [&](const std::string& name) {
            struct stat other {};
            return kDirectory / name != plain &&
                   ::lstat((kDirectory / name).c_str(), &other) == 0 &&
                   other.st_ino == first.st_ino && other.st_dev == first.st_dev;
        });
        if (twice) {
            std::erase(found, plain.filename().string());
        }
    }
    return found;
}

std::string object_of(const std::string& pool, std::uint32_t number) {
    for (const std::string& name : names_of(pool)) {
        const mempool::shm::UniqueFd fd(
            ::open((kDirectory / name).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
        std::uint64_t magic = 0;
        std::uint32_t found = 0;
        if (!fd || name.find(".aside-") != std::string::npos || name == "mempool." + pool ||
            ::pread(fd.get(), &magic, sizeof(magic), 0) != sizeof(magic) ||
            ::pread(fd.get(), &found, sizeof(found), 12) != sizeof(found)) {
            continue;
        }
        if (number == 0 ? magic == mempool::shm::kMagic
                        : magic == mempool::shm::kSegmentMagic && found == number) {
            return name;
        }
    }
    return {};
}

void make_former(const std::string& pool, const std::string& runtime) {
    if (!runtime.empty()) {
        std::stringstream kept;
        std::ifstream index(runtime + "/pools");
        for (std::string line; std::getline(index, line);) {
            kept << (line.starts_with("layout ") ? "" : line + '\n');
        }
        std::ofstream(runtime + "/pools") << kept.str();
    }
    std::uint32_t number = 0;
    for (std::string name = object_of(pool, 0); !name.empty(); name = object_of(pool, ++number)) {
        const mempool::shm::UniqueFd fd(::open((kDirectory / name).c_str(), O_RDWR | O_CLOEXEC));
        make_former(fd.get(), number);
    }
}

void make_former(int fd, std::uint32_t number) {
    const auto write = [fd](std::uint32_t value, off_t offset) {
        if (::pwrite(fd, &value, sizeof(value), offset) != sizeof(value)) {
            throw std::system_error(errno, std::generic_category(), "pwrite");
        }
    };
    static_assert(offsetof(mempool::shm::SegmentHeader, layout_version) ==
                  offsetof(mempool::shm::Header, layout_version));
    write(mempool::shm::kFormerLayoutVersion, offsetof(mempool::shm::Header, layout_version));
    if (number == 0) {
        write(1, offsetof(mempool::shm::Header, incompat));
    }
}

void remove_pool(const std::string& pool) {
    std::error_code ignored;
    for (const std::string& name : names_of(pool)) {
        std::filesystem::remove_all(kDirectory / name, ignored);
    }
}

}  // namespace mempool_test
