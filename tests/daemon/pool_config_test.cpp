// A pool in one line: what it may say and what is refused, by a message that names the fault.
#include "daemon/config/pool_config.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <string>

namespace mempoold {
namespace {

using testing::HasSubstr;

// The message of the refusal; empty if there was none.
std::string fault_of(const std::string& text) {
    try {
        parse_pool(text, "here");
    } catch (const ConfigError& e) {
        return e.what();
    }
    return {};
}

TEST(PoolConfig, TheShortFormHasDefaults) {
    const PoolConfig pool = parse_pool("frames:64KiBx1024", "here");
    EXPECT_EQ(pool.name, "frames");
    EXPECT_EQ(pool.source, "here");
    EXPECT_EQ(pool.slot_size, 65536U);
    EXPECT_EQ(pool.slots, 1024U);
    EXPECT_EQ(pool.max_slots, 1024U);
    EXPECT_EQ(pool.cache_bytes, 256U << 10U);
    EXPECT_EQ(pool.max_clients, 256U);
    EXPECT_EQ(pool.mode, 0600U);
    EXPECT_EQ(pool.low_watermark, (Watermark{10, true}));
    EXPECT_FALSE(pool.erase_on_put);
    EXPECT_EQ(pool.detached_ttl_s, 0U);
    EXPECT_EQ(pool.access, Access{});
}

TEST(PoolConfig, EveryKeyIsTaken) {
    const PoolConfig pool = parse_pool(
        "a-b_C9:1Kx10,max_slots=80,grow_slots=5,low_watermark=3,erase_on_put=yes,cache_bytes=4K,"
        "max_clients=7,quota=9,detached_ttl=60,owner=root,group=0,mode=0660,allow_users=root+1234,"
        "allow_groups=root:77",
        "here");
    EXPECT_EQ(pool.max_slots, 80U);
    EXPECT_EQ(pool.grow_slots, 5U);
    EXPECT_EQ(pool.low_watermark, (Watermark{3, false}));
    EXPECT_TRUE(pool.erase_on_put);
    EXPECT_EQ(pool.cache_bytes, 4000U);
    EXPECT_EQ(pool.max_clients, 7U);
    EXPECT_EQ(pool.quota, 9U);
    EXPECT_EQ(pool.detached_ttl_s, 60U);
    EXPECT_EQ(pool.owner, 0U);
    EXPECT_EQ(pool.group, 0U);
    EXPECT_EQ(pool.mode, 0660U);
    EXPECT_THAT(pool.access.users, testing::ElementsAre(0U, 1234U));
    EXPECT_THAT(pool.access.groups, testing::ElementsAre(0U, 77U));
}

TEST(PoolConfig, TheBackingIsShmUnlessMemfdIsAskedFor) {
    EXPECT_EQ(parse_pool("a:1x1", "here").backing, PoolConfig::Backing::kShm);
    const PoolConfig pool = parse_pool("a:1x1,backing=memfd", "here");
    EXPECT_EQ(pool.backing, PoolConfig::Backing::kMemfd);
    EXPECT_EQ(parse_pool(format_pool(pool), "x").backing, PoolConfig::Backing::kMemfd);
    EXPECT_THAT(fault_of("a:1x1,backing=disk"), HasSubstr("backing: 'disk' is not shm or memfd"));
}

TEST(PoolConfig, AStarAllowsEverybody) {
    EXPECT_TRUE(parse_pool("a:1x1,allow_users=*", "here").access.everybody);
}

TEST(PoolConfig, WhatIsShownReadsBackTheSame) {
    const PoolConfig first =
        parse_pool("a:1Kx10,max_slots=80,grow_factor=1.5,allow_users=root+*", "x");
    const PoolConfig second = parse_pool(format_pool(first), "x");
    EXPECT_EQ(format_pool(first), format_pool(second));
    EXPECT_EQ(first.access, second.access);
    EXPECT_EQ(first.shape(), second.shape());
}

TEST(PoolConfig, BadNamesAreRefused) {
    EXPECT_THAT(fault_of(":1x1"), HasSubstr("must not be empty"));
    EXPECT_THAT(fault_of("a/b:1x1"), HasSubstr("letters, digits"));
    EXPECT_THAT(fault_of("..:1x1"), HasSubstr("letters, digits"));
    EXPECT_THAT(fault_of("a.1:1x1"), HasSubstr("letters, digits"));
    EXPECT_THAT(fault_of("a b:1x1"), HasSubstr("letters, digits"));
    EXPECT_THAT(fault_of(std::string(300, 'a') + ":1x1"), HasSubstr("at most 63"));
}

TEST(PoolConfig, BadFormsAreRefused) {
    for (const char* text : {"", "a", "a:", "a:1", "a:x", "a:1x", "a:x1", "a:1x1,",
                             "a:1x1,,mode=0600", "a:1x1,mode", "a:1x1,mode=0600,", "a:1x1x1"}) {
        EXPECT_NE(fault_of(text), "") << text;
    }
}

TEST(PoolConfig, BadValuesAreRefusedByKey) {
    EXPECT_THAT(fault_of("a:0x1"), HasSubstr("slot_size: a size must be at least 1"));
    EXPECT_THAT(fault_of("a:4Qx1"), HasSubstr("slot_size: '4Q' is not a size"));
    EXPECT_THAT(fault_of("a:99999999999999999999Gx1"), HasSubstr("64 bits"));
    EXPECT_THAT(fault_of("a:1x0"), HasSubstr("slots: 0 is not from 1"));
    EXPECT_THAT(fault_of("a:1x-5"), HasSubstr("slots: '-5' is not a number"));
    EXPECT_THAT(fault_of("a:1x9999999999"), HasSubstr("slots:"));
    EXPECT_THAT(fault_of("a:1x1,owner=no-such-user"), HasSubstr("no user 'no-such-user'"));
    EXPECT_THAT(fault_of("a:1x1,group=no-such-group"), HasSubstr("no group 'no-such-group'"));
    EXPECT_THAT(fault_of("a:1x1,allow_users=root+no-such-user"),
                HasSubstr("allow_users: there is no"));
    EXPECT_THAT(fault_of("a:1x1,allow_groups=*"), HasSubstr("allow_groups: there is no group '*'"));
    EXPECT_THAT(fault_of("a:1x1,max_clients=0"), HasSubstr("max_clients:"));
    EXPECT_THAT(fault_of("a:1x1,max_clients=70000"), HasSubstr("max_clients:"));
    EXPECT_THAT(fault_of("a:1x1,mode=0100"), HasSubstr("mode:"));
}

TEST(PoolConfig, ContradictionsAreRefused) {
    EXPECT_THAT(fault_of("a:1x10,max_slots=9"), HasSubstr("max_slots (9) is less than slots (10)"));
    EXPECT_THAT(fault_of("a:1x10,low_watermark=11"), HasSubstr("low_watermark (11) is more than"));
    EXPECT_THAT(fault_of("a:1x10,grow_slots=1,grow_factor=2"), HasSubstr("contradict"));
    EXPECT_THAT(fault_of("a:1x10,mode=0600,backing=memfd"), HasSubstr("leave them away"));
    EXPECT_THAT(fault_of("a:1x10,mode=0600,mode=0600"), HasSubstr("'mode' is given twice"));
    EXPECT_THAT(fault_of("a:1GiBx200000000"), HasSubstr("more than a pool can have"));
}

TEST(PoolConfig, UnknownKeysAreRefusedByName) {
    EXPECT_THAT(fault_of("a:1x1,rate=3"), HasSubstr("no key 'rate'; it has slot_size"));
}

}  // namespace
}  // namespace mempoold
