// What control groups allow, read from files made for the purpose.
#include "daemon/storage/memory_limit.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "daemon/storage/allocation.hpp"

namespace mempoold {
namespace {

namespace fs = std::filesystem;

class MemoryLimitTest : public testing::Test {
protected:
    MemoryLimitTest() { fs::create_directories(top_ / "proc"); }
    ~MemoryLimitTest() override { fs::remove_all(top_); }

    void write(const std::string& path, const std::string& text) const {
        fs::create_directories((top_ / path).parent_path());
        std::ofstream(top_ / path) << text;
    }
    // A process in `group`, where the hierarchy's `root` is mounted.
    void make_process(const std::string& type, const std::string& root, const std::string& group) {
        const bool unified = type == "cgroup2";
        write("proc/mountinfo", "22 1 0:20 / / rw - ext4 disk rw\n30 22 0:26 " + root + " " +
                                    (top_ / "fs").string() + " rw,nosuid shared:4 - " + type +
                                    " cgroup rw" + (unified ? "" : ",memory") + "\n");
        write("proc/cgroup",
              unified ? "0::" + group + "\n" : "2:cpu:/else\n4:memory:" + group + "\n0::/\n");
    }
    std::optional<MemoryRoom> room() const { return MemoryLimit((top_ / "proc").string()).room(); }

    const fs::path top_ =
        fs::temp_directory_path() / ("memory-limit-" + std::to_string(::getpid()));
};

TEST_F(MemoryLimitTest, NothingThatCanBeReadIsNoLimit) { EXPECT_FALSE(room()); }

TEST_F(MemoryLimitTest, TheTightestOfAllGroupsAboveCounts) {
    make_process("cgroup2", "/", "/a.slice/b.service");
    write("fs/a.slice/memory.max", "5000\n");
    write("fs/a.slice/memory.high", "max\n");
    write("fs/a.slice/memory.current", "4200\n");
    write("fs/a.slice/b.service/memory.max", "3000\n");
    write("fs/a.slice/b.service/memory.high", "max\n");
    write("fs/a.slice/b.service/memory.current", "1000\n");
    ASSERT_TRUE(room());
    EXPECT_EQ(room()->bytes, 800U);
    EXPECT_EQ(room()->limit, (top_ / "fs/a.slice/memory.max").string());
    write("fs/a.slice/b.service/memory.high", "1500\n");
    EXPECT_EQ(room()->bytes, 500U);
}

TEST_F(MemoryLimitTest, TheCacheOfFilesCountsAsLeft) {
    make_process("cgroup2", "/", "/a");
    write("fs/a/memory.max", "5000\n");
    write("fs/a/memory.current", "4200\n");
    write("fs/a/memory.stat", "anon 10\ninactive_file 300\nactive_file 200\nshmem 3000\n");
    EXPECT_EQ(room()->bytes, 1300U);
}

TEST_F(MemoryLimitTest, MoreThanAllowedIsUsedMeansNoRoom) {
    make_process("cgroup2", "/", "/a");
    write("fs/a/memory.max", "0\n");
    write("fs/a/memory.current", "4200\n");
    EXPECT_EQ(room()->bytes, 0U);
}

TEST_F(MemoryLimitTest, VersionOneIsReadToo) {
    make_process("cgroup", "/", "/box");
    write("fs/memory.limit_in_bytes", "9223372036854771712\n");
    write("fs/memory.usage_in_bytes", "7\n");
    EXPECT_FALSE(room());
    write("fs/box/memory.limit_in_bytes", "10000\n");
    write("fs/box/memory.usage_in_bytes", "6000\n");
    write("fs/box/memory.stat", "inactive_file 1\ntotal_inactive_file 500\ntotal_active_file 0\n");
    EXPECT_EQ(room()->bytes, 4500U);
}

TEST_F(MemoryLimitTest, AContainersOwnGroupIsTheRootOfItsMount) {
    write("fs/memory.limit_in_bytes", "100\n");
    write("fs/memory.usage_in_bytes", "40\n");
    for (const char* group : {"/box", "/elsewhere", "/../other"}) {
        make_process("cgroup", "/box", group);
        ASSERT_TRUE(room()) << group;
        EXPECT_EQ(room()->bytes, 60U) << group;
    }
    make_process("cgroup", "/box", "/box/inner");
    write("fs/inner/memory.limit_in_bytes", "50\n");
    write("fs/inner/memory.usage_in_bytes", "40\n");
    EXPECT_EQ(room()->bytes, 10U);
}

TEST_F(MemoryLimitTest, SomethingIsKeptForTheDaemonItself) {
    make_process("cgroup2", "/", "/a");
    write("fs/a/memory.max", "100000000\n");
    write("fs/a/memory.current", "0\n");
    const MemoryLimit limit((top_ / "proc").string());
    EXPECT_FALSE(lacks_room(limit, 90'000'000));
    EXPECT_TRUE(lacks_room(limit, 99'999'999));
}

}  // namespace
}  // namespace mempoold
