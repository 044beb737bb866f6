// Command line and configuration files together.
#include "daemon/config/config.hpp"

#include <gmock/gmock.h>

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
    write("pools.d/c.conf", "slot_size = 64KiB\nslots = 1\n");
    write("pools.d/bad.name.conf", "slot_size = 64KiB\nslots = 1\n");
    EXPECT_THAT(fault_of({}), HasSubstr("bad.name.conf: a pool's name consists of"));
}

TEST_F(ConfigTest, TwoPoolsOfOneNameAreRefused) {
    write("mempoold.conf", "pool = a:1Kx10\n");
    write("pools.d/a.conf", "slot_size = 1\nslots = 1\n");
    EXPECT_THAT(fault_of({}), HasSubstr("pool 'a' is there already, from " + file() + ":1"));
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
