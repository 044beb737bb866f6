#include "support/small_shm.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace mempool_test {

namespace {
constexpr const char* kFiller = "/dev/shm/mempool-test-filler";
constexpr off_t kFirstStep = off_t{1} << 20U;
constexpr off_t kLastStep = 4096;
}  // namespace

SmallShm::SmallShm()
    : before_(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)),
      made_(before_ && ::unshare(CLONE_NEWNS) == 0 &&
            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
            ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=16m,mode=1777") == 0) {}

SmallShm::~SmallShm() {
    if (made_) {
        ::setns(before_.get(), CLONE_NEWNS);
    }
}

ShmFiller::ShmFiller() {
    const mempool::shm::UniqueFd file(::open(kFiller, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) {
        throw std::system_error(errno, std::generic_category(), kFiller);
    }
    off_t size = 0;
    for (off_t step = kFirstStep; step >= kLastStep; step /= 2) {
        while (::posix_fallocate(file.get(), size, step) == 0) {
            size += step;
        }
    }
}

ShmFiller::~ShmFiller() { ::unlink(kFiller); }

}  // namespace mempool_test
