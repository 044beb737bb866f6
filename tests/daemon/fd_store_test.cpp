// What a service manager keeps for the next daemon.
#include "daemon/storage/fd_store.hpp"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "fake_manager.hpp"

namespace mempoold {
namespace {

using mempool::shm::UniqueFd;
using testing::ElementsAre;
using testing::IsEmpty;

UniqueFd own_pidfd() {
    return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0))};
}

TEST(FdStore, KeepsClientsPidfdsForTheNextDaemon) {
    FakeManager manager;
    FdStore store;
    const UniqueFd pidfd = own_pidfd();
    store.keep_client({0xabc, 7, 1}, pidfd.get());
    store.keep_client({0xabc, 8, 1}, pidfd.get());
    store.forget_client({0xabc, 8, 1});
    EXPECT_THAT(manager.names(), ElementsAre("c.0000000000000abc.7.1"));
    auto passed = manager.passed();
    FdStore next(passed);
    EXPECT_THAT(passed, IsEmpty());
    EXPECT_FALSE(next.take_client({0xabc, 8, 1}));
    EXPECT_FALSE(next.take_client({0xabd, 7, 1})) << "another pool's";
    EXPECT_FALSE(next.take_client({0xabc, 7, 2})) << "a later attachment's";
    EXPECT_EQ(next.copy_clients(0xabc).size(), 1U);
    EXPECT_THAT(next.copy_clients(0xabd), IsEmpty());
    EXPECT_TRUE(next.take_client({0xabc, 7, 1}));
    EXPECT_THAT(next.copy_clients(0xabc), IsEmpty());
    EXPECT_FALSE(next.take_client({0xabc, 7, 1})) << "it is the caller's now";
}

TEST(FdStore, LetsGoOfClientsThatNobodyTook) {
    FakeManager manager;
    FdStore store;
    const UniqueFd pidfd = own_pidfd();
    store.keep_client({1, 7, 1}, pidfd.get());
    store.keep_client({1, 9, 1}, pidfd.get());
    auto passed = manager.passed();
    FdStore next(passed);
    EXPECT_TRUE(next.take_client({1, 7, 1}));
    next.drop_clients();
    EXPECT_THAT(manager.names(), ElementsAre("c.0000000000000001.7.1"));
}

// Beyond 128 KiB of names in one variable the kernel would not start the next daemon.
TEST(FdStore, KeepsNoMoreNamesThanTheNextDaemonCanBeStartedWith) {
    constexpr rlim_t kDescriptors = 8192;  // the manager is in this process
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < kDescriptors) {
        GTEST_SKIP() << "needs " << kDescriptors << " descriptors: raise the hard limit";
    }
    limit.rlim_cur = std::max(limit.rlim_cur, kDescriptors);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    FakeManager manager;
    FdStore store;
    const UniqueFd fd = own_pidfd();
    std::size_t bytes = 0;
    for (std::uint32_t id = 1; id < 5000; ++id) {
        store.keep_client({~std::uint64_t{0}, id, 1}, fd.get());
        if (id % 4 == 0) {
            manager.status();  // so that its queue does not fill
        }
    }
    const std::string long_name(60, 'x');
    EXPECT_THROW(
        {
            for (std::uint32_t number = 0; number < 2000; ++number) {
                store.keep(long_name, number, fd.get());
                if (number % 4 == 0) {
                    manager.status();
                }
            }
        },
        std::system_error);
    for (const std::string& name : manager.names()) {
        bytes += name.size() + 1;
    }
    EXPECT_GT(bytes, 100'000U);
    EXPECT_LT(bytes, 128U * 1024U);
}

TEST(FdStore, LeavesWhatItDoesNotKnow) {
    FdStore::Descriptors passed;
    passed.emplace_back("control", own_pidfd());
    passed.emplace_back("c.xyz.1.1", own_pidfd());
    passed.emplace_back("c.0000000000000001.01.1", own_pidfd());
    FdStore store(passed);
    EXPECT_EQ(passed.size(), 3U);
}

}  // namespace
}  // namespace mempoold
