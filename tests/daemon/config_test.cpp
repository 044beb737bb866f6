// Command line and configuration files together.
#include "daemon/config/config.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/daemon_process.hpp"

namespace mempoold {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ConfigTest : public testing::Test {
protected:
    const std::string& directory() const { return directory_.path(); }
    std::string file() const { return directory() + "/mempoold.conf"; }

    void write(const std::string& name, const std::string& text) const {
        const std::filesystem::path path = directory() + "/" + name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path) << text;
    }

    // With the temporary file in the place of the system's.
    Config load(const std::vector<std::string>& arguments) const {
        return load_config(parse_command_line(arguments), file());
    }
    std::string fault_of(const std::vector<std::string>& arguments) const {
        try {
            load(arguments);
        } catch (const ConfigError& e) {
            return e.what();
        }
        return {};
    }

private:
    mempool_test::TemporaryDirectory directory_;
};

TEST_F(ConfigTest, WithoutAnythingOnePoolIsBuiltIn) {
    const Config config = load({});
    ASSERT_EQ(config.pools.size(), 1U);
    EXPECT_EQ(config.pools[0].name, "default");
    EXPECT_EQ(config.pools[0].max_slots, 65536U);
    EXPECT_TRUE(config.built_in_pool);
    EXPECT_EQ(config.file, "");
}

TEST_F(ConfigTest, TheFileIsReadWithThePoolsBesideIt) {
    write("mempoold.conf",
          "# comment\n\nsocket = /tmp/x.sock  # behind\nadmin_group = root\nlog_level=debug\n"
          "remove_on_exit = yes\npool = a:1Kx10\npool = b:2Kx20\n");
    write("pools.d/c.conf", "slot_size = 64KiB\nslots = 64\nallow_users = root, 1234\n");
    write("pools.d/ignored.txt", "nonsense");
    const Config config = load({});
    EXPECT_EQ(config.socket, "/tmp/x.sock");
    EXPECT_EQ(config.admin_gid, 0U);
    EXPECT_EQ(config.log_level, LogLevel::kDebug);
    EXPECT_TRUE(config.remove_on_exit);
    ASSERT_EQ(config.pools.size(), 3U);
    EXPECT_EQ(config.pools[1].source, file() + ":8");
    EXPECT_EQ(config.pools[2].name, "c");
    EXPECT_THAT(config.pools[2].access.users, testing::ElementsAre(0U, 1234U));
}

TEST_F(ConfigTest, TheCommandLineComesFirst) {
    write("mempoold.conf", "socket = /tmp/x.sock\nlog_level = debug\npool = a:1Kx10\n");
    const Config config = load({"--config", file(), "--socket=/tmp/y.sock", "--pool", "z:1x1"});
    EXPECT_EQ(config.socket, "/tmp/y.sock");
    EXPECT_EQ(config.log_level, LogLevel::kDebug);
    ASSERT_EQ(config.pools.size(), 1U);
    EXPECT_EQ(config.pools[0].name, "z");
}

TEST_F(ConfigTest, WithPoolsGivenTheDefaultFileIsNotRead) {
    write("mempoold.conf", "this is no configuration");
    EXPECT_EQ(load({"--pool", "z:1x1"}).file, "");
}

TEST_F(ConfigTest, DashesAndUnderscoresAreTheSameInFlags) {
    EXPECT_TRUE(load({"--remove_on_exit"}).remove_on_exit);
    EXPECT_TRUE(load({"--remove-on-exit"}).remove_on_exit);
    EXPECT_FALSE(load({"--remove-on-exit=no"}).remove_on_exit);
    EXPECT_EQ(load({"--log_level=error"}).log_level, LogLevel::kError);
}

TEST_F(ConfigTest, FaultsNameFileAndLine) {
    write("mempoold.conf", "socket = /x\nsoket = /y\n");
    EXPECT_THAT(fault_of({}), StartsWith(file() + ":2: soket: no such key"));
    write("mempoold.conf", "\n\npool = a:0x1\n");
    EXPECT_THAT(fault_of({}), StartsWith(file() + ":3: pool: slot_size:"));
    write("mempoold.conf", "nonsense\n");
    EXPECT_THAT(fault_of({}), StartsWith(file() + ":1: 'nonsense' is not key = value"));
    write("mempoold.conf", "[pools]\n");
    EXPECT_THAT(fault_of({}), StartsWith(file() + ":1: sections"));
    write("mempoold.conf", "socket = /x\nsocket = /y\n");
    EXPECT_THAT(fault_of({}), HasSubstr(":2: socket: given twice"));
    write("mempoold.conf", "log_level = loud\n");
    EXPECT_THAT(fault_of({}), HasSubstr(":1: log_level: 'loud' is not"));
    write("mempoold.conf", "admin_group = no-such-group\n");
    EXPECT_THAT(fault_of({}), HasSubstr(":1: admin_group: there is no group"));
    write("mempoold.conf", "remove_on_exit = perhaps\n");
    EXPECT_THAT(fault_of({}), HasSubstr(":1: remove_on_exit: 'perhaps' is neither"));
}

TEST_F(ConfigTest, FaultsInPoolFilesNameThem) {
    write("mempoold.conf", "");
    write("pools.d/c.conf", "slot_size = 64KiB\nslotz = 64\n");
    EXPECT_THAT(fault_of({}), HasSubstr("pools.d/c.conf:2: a pool has no key 'slotz'"));
    write("pools.d/c.conf", "slot_size = 64KiB\n");
    EXPECT_THAT(fault_of({}), HasSubstr("pools.d/c.conf: slots is missing"));
    std::filesystem::remove(directory() + "/pools.d/c.conf");
    write("pools.d/bad.name.conf", "slot_size = 64KiB\nslots = 1\n");
    EXPECT_THAT(fault_of({}), HasSubstr("bad.name.conf: a pool's name consists of"));
}

TEST_F(ConfigTest, ABadPoolFileCostsItsPoolAlone) {
    write("mempoold.conf", "pool = a:1Kx10\n");
    write("pools.d/b.conf", "slot_size = 1K\nslots = 10\n");
    write("pools.d/bad.conf", "slot_size = 64KiB\nslotz = 64\n");
    write("pools.d/a.conf", "slot_size = 1K\nslots = 10\n");
    const Config config = load({});
    ASSERT_EQ(config.pools.size(), 2U);
    EXPECT_EQ(config.pools[1].name, "b");
    ASSERT_EQ(config.faults.size(), 2U);
    EXPECT_THAT(config.faults[0], HasSubstr("pools.d/a.conf: pool 'a' is there already"));
    EXPECT_THAT(config.faults[1], HasSubstr("pools.d/bad.conf:2:"));
}

TEST_F(ConfigTest, TheBuiltInPoolTakesNoBadOnesPlace) {
    write("mempoold.conf", "");
    write("pools.d/bad.conf", "slotz = 64\n");
    EXPECT_THAT(fault_of({}), HasSubstr("pools.d/bad.conf:1:"));
}

TEST_F(ConfigTest, FilesOfEditorsAndPackageManagersAreNoPools) {
    write("mempoold.conf", "pool = a:1Kx10\n");
    for (const char* name : {".#b.conf", "b.conf~", "b.conf.dpkg-old", ".b.conf.swp", "#b.conf#",
                             "b.conf.bak", ".conf"}) {
        write(std::string("pools.d/") + name, "nonsense");
    }
    std::filesystem::create_symlink("nobody@nowhere:1", directory() + "/pools.d/.#a.conf");
    const Config config = load({});
    EXPECT_EQ(config.pools.size(), 1U);
    EXPECT_THAT(config.faults, testing::IsEmpty());
}

TEST_F(ConfigTest, WhatIsNoRegularFileIsNotWaitedFor) {
    write("mempoold.conf", "pool = a:1Kx10\n");
    write("pools.d/b.conf", "slot_size = 1K\nslots = 10\n");
    const std::string pools = directory() + "/pools.d/";
    ASSERT_EQ(::mkfifo((pools + "c.conf").c_str(), 0600), 0);
    std::filesystem::create_directory(pools + "d.conf");
    std::filesystem::create_symlink("/dev/full", pools + "e.conf");
    std::filesystem::create_symlink("b.conf", pools + "f.conf");
    const Config config = load({});
    ASSERT_EQ(config.pools.size(), 3U);
    EXPECT_EQ(config.pools[2].name, "f");
    ASSERT_EQ(config.faults.size(), 3U);
    EXPECT_THAT(config.faults[0], HasSubstr("c.conf: it is not a regular file"));
    EXPECT_THAT(config.faults[1], HasSubstr("d.conf: it is a directory"));
    EXPECT_THAT(config.faults[2], HasSubstr("e.conf: it is not a regular file"));
}

TEST_F(ConfigTest, TheNullDeviceIsAnEmptyFile) {
    EXPECT_TRUE(load({"--config", "/dev/null"}).built_in_pool);
}

TEST_F(ConfigTest, BytesThatAreNoTextAreNamed) {
    write("mempoold.conf",
          "# Gr\xfc\xdf"
          "e\nadmin_group = M\xfcller\n");
    EXPECT_THAT(fault_of({}), HasSubstr(":2: byte 0xfc is not text: save the file as UTF-8"));
    write("mempoold.conf", "socket = /tmp/\x1b[2J\n");
    EXPECT_THAT(fault_of({}), HasSubstr(":1: byte 0x1b is not text"));
    write("mempoold.conf", "\xef\xbb\xbfsocket = /tmp/\xc3\xbc.sock\r\n");
    EXPECT_EQ(load({}).socket, "/tmp/\xc3\xbc.sock");
}

TEST_F(ConfigTest, RelativePathsAreFromWhereItWasStarted) {
    write("mempoold.conf", "socket = m.sock\n");
    CommandLine line = parse_command_line({"--config", "mempoold.conf"});
    EXPECT_EQ(line.directory, std::filesystem::current_path());
    line.directory = directory();
    const Config config = load_config(line, file());
    EXPECT_EQ(config.file, file());
    EXPECT_EQ(config.socket, directory() + "/m.sock");
    line.directory.clear();
    EXPECT_THROW(load_config(line, file()), ConfigError);
}

TEST_F(ConfigTest, TwoPoolsOfOneNameAreRefused) {
    write("mempoold.conf", "pool = a:1Kx10\npool = a:1Kx10\n");
    EXPECT_THAT(fault_of({}),
                HasSubstr(":2: pool: pool 'a' is there already, from " + file() + ":1"));
    EXPECT_THAT(fault_of({"--pool", "b:1x1", "--pool", "b:2x2"}),
                HasSubstr("'b' is there already"));
}

TEST_F(ConfigTest, AFileThatIsNamedMustBeThere) {
    EXPECT_THAT(fault_of({"--config", directory() + "/none.conf"}), HasSubstr("No such file"));
    EXPECT_THAT(fault_of({"--config", directory()}), HasSubstr("is a directory"));
}

TEST_F(ConfigTest, BinaryFilesAreRefused) {
    write("mempoold.conf", std::string("pool = a\0b", 10));
    EXPECT_THAT(fault_of({}), HasSubstr("not a text file"));
}

TEST_F(ConfigTest, UnknownFlagsAreRefused) {
    EXPECT_THAT(fault_of({"--sock=/x"}), HasSubstr("--help"));
    EXPECT_THAT(fault_of({"pool"}), HasSubstr("--help"));
    EXPECT_THAT(fault_of({"--socket"}), HasSubstr("--help"));
    EXPECT_THAT(fault_of({"--pool", "a:0x1"}), StartsWith("--pool: slot_size:"));
    EXPECT_THAT(fault_of({"--log-level=loud"}), StartsWith("--log_level: 'loud'"));
}

TEST_F(ConfigTest, WhatIsShownReadsBackTheSame) {
    const Config first = load({"--pool", "a:1Kx10,max_slots=80", "--socket", "/tmp/x.sock"});
    write("shown.conf", format_config(first));
    const Config second = load({"--config", directory() + "/shown.conf"});
    EXPECT_EQ(second.socket, first.socket);
    ASSERT_EQ(second.pools.size(), 1U);
    EXPECT_EQ(format_pool(second.pools[0]), format_pool(first.pools[0]));
}

}  // namespace
}  // namespace mempoold
