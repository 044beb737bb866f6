// The SIGBUS handler: a truncated file must not end the process.
#include "daemon/storage/fault_guard.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "mempool/shm/words/layout.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {
namespace {

using mempool::shm::kPage;

/// Two pages of a file that has become one page long.
class TruncatedFile {
public:
    TruncatedFile() : fd_(::memfd_create("truncated", MFD_CLOEXEC)) {
        EXPECT_EQ(::ftruncate(fd_.get(), 2 * kPage), 0);
        base_ = static_cast<char*>(
            ::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
        base_[0] = 'a';
        base_[kPage] = 'b';
        EXPECT_EQ(::ftruncate(fd_.get(), kPage), 0);
    }
    TruncatedFile(const TruncatedFile&) = delete;
    TruncatedFile& operator=(const TruncatedFile&) = delete;
    ~TruncatedFile() { ::munmap(base_, 2 * kPage); }
    volatile char* base() { return base_; }

private:
    mempool::shm::UniqueFd fd_;
    char* base_ = nullptr;
};

TEST(FaultGuard, AFaultInAGuardedRangeReadsZeros) {
    install_fault_handler();
    TruncatedFile file;
    const FaultGuard guard(const_cast<char*>(file.base()), 2 * kPage);
    EXPECT_EQ(file.base()[0], 'a');
    EXPECT_FALSE(guard.faulted());
    EXPECT_EQ(file.base()[kPage], 0);
    EXPECT_TRUE(guard.faulted());
    file.base()[kPage] = 'c';
    EXPECT_EQ(file.base()[kPage], 'c');
}

TEST(FaultGuard, AnotherRangeIsNotMarked) {
    install_fault_handler();
    TruncatedFile file;
    TruncatedFile other;
    const FaultGuard guard(const_cast<char*>(file.base()), 2 * kPage);
    const FaultGuard other_guard(const_cast<char*>(other.base()), 2 * kPage);
    EXPECT_EQ(other.base()[kPage], 0);
    EXPECT_FALSE(guard.faulted());
    EXPECT_TRUE(other_guard.faulted());
}

TEST(FaultGuard, AFaultOfAnotherThreadMarksTheSameRange) {
    install_fault_handler();
    TruncatedFile file;
    const FaultGuard guard(const_cast<char*>(file.base()), 2 * kPage);
    std::thread([&] { EXPECT_EQ(file.base()[kPage], 0); }).join();
    EXPECT_TRUE(guard.faulted());
}

TEST(FaultGuardDeathTest, AFaultElsewhereEndsTheProcess) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT(
        {
            install_fault_handler();
            TruncatedFile file;
            file.base()[kPage] = 'c';
            ::_exit(0);
        },
        testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace mempoold
