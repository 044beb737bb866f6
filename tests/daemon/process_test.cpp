// Telling processes apart, and what another namespace's numbers are worth.
#include "daemon/supervision/process.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace mempoold {
namespace {

class ProcessTest : public testing::Test {
protected:
    const UniqueFd self_ = open_pidfd(::getpid());
    const ProcessId id_ = identify(self_.get(), ::getpid());
    UniqueFd pidfd_;
};

TEST_F(ProcessTest, AProcessThatLivesIsFoundAgain) {
    EXPECT_NE(id_.key, 0U);
    EXPECT_NE(id_.pid_namespace, 0U);
    EXPECT_EQ(judge(id_, pidfd_), Fate::kAlive);
    EXPECT_TRUE(pidfd_);
}

TEST_F(ProcessTest, OneThatHasTheNumberOfAnEndedOneIsNotIt) {
    ProcessId former = id_;
    former.key += 1;
    EXPECT_EQ(judge(former, pidfd_), Fate::kDead);
    EXPECT_FALSE(pidfd_);
}

TEST_F(ProcessTest, ANumberThatNobodyHasIsOfAnEndedOne) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(0);
    }
    const UniqueFd pidfd = open_pidfd(child);
    const ProcessId id = identify(pidfd.get(), child);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(judge(id, pidfd_), Fate::kDead);
}

TEST_F(ProcessTest, AnotherNamespacesNumbersSayNothing) {
    ProcessId elsewhere = id_;
    elsewhere.pid_namespace += 1;
    elsewhere.pid = 0x3fff'fff0;  // nobody's
    EXPECT_EQ(judge(elsewhere, pidfd_), Fate::kUnknown);
    elsewhere.pid = ::getpid();
    elsewhere.key += 1;  // somebody else's here
    EXPECT_EQ(judge(elsewhere, pidfd_), Fate::kUnknown);
    elsewhere.pid_namespace = 0;
    elsewhere.pid = 0x3fff'fff0;
    EXPECT_EQ(judge(elsewhere, pidfd_), Fate::kUnknown) << "a release without namespaces wrote it";
}

TEST_F(ProcessTest, AStartTimeOfAnotherTimeNamespaceSaysNothing) {
    ProcessId by_time = id_;
    by_time.key = start_time(::getpid()).value();
    by_time.time_namespace = 2;  // no time namespace has that inode
    EXPECT_EQ(judge(by_time, pidfd_), Fate::kUnknown);
    struct stat status {};
    ASSERT_EQ(::stat("/proc/self/ns/time", &status), 0);
    by_time.time_namespace = static_cast<std::uint32_t>(status.st_ino);
    EXPECT_EQ(judge(by_time, pidfd_), Fate::kAlive);
    by_time.key += 1;
    EXPECT_EQ(judge(by_time, pidfd_), Fate::kDead);
}

TEST_F(ProcessTest, NonsenseInARecordIsNobodysDeath) {
    for (const pid_t pid : {0, -1, -4711}) {
        ProcessId id = id_;
        id.pid = pid;
        EXPECT_EQ(judge(id, pidfd_), Fate::kUnknown);
    }
}

TEST_F(ProcessTest, AMappingIsFoundByItsFileAndItsPlace) {
    const UniqueFd file{::memfd_create("mapped", MFD_CLOEXEC)};
    ASSERT_EQ(::ftruncate(file.get(), 8192), 0);
    struct stat status {};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    MappedFile wanted{.device = status.st_dev, .inode = status.st_ino};
    EXPECT_EQ(find_mapping(self_.get(), id_, wanted), Mapping::kAbsent);
    void* at = ::mmap(nullptr, 8192, PROT_READ, MAP_SHARED, file.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    EXPECT_EQ(find_mapping(self_.get(), id_, wanted), Mapping::kPresent);
    wanted.address = reinterpret_cast<std::uintptr_t>(at);
    EXPECT_EQ(find_mapping(self_.get(), id_, wanted), Mapping::kPresent);
    wanted.address += 4096;
    EXPECT_EQ(find_mapping(self_.get(), id_, wanted), Mapping::kAbsent)
        << "another program of the process mapped it there";
    ::munmap(at, 8192);
}

TEST_F(ProcessTest, TheMapsOfAnEndedProcessSayNothing) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(0);
    }
    const UniqueFd pidfd = open_pidfd(child);
    const ProcessId id = identify(pidfd.get(), child);
    EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(child), nullptr, WEXITED | WNOWAIT), 0);
    EXPECT_EQ(find_mapping(pidfd.get(), id, {.device = 1, .inode = 1}), Mapping::kUnknown);
    ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace mempoold
