// Messages over a socket pair: whole, bounded, and with the descriptors they brought.
#include "mempool/shm/wire.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "mempool/shm/words/names.hpp"
#include "mempool/shm/words/pool_index.hpp"

namespace mempool::shm {
namespace {

class Wire : public testing::Test {
protected:
    void SetUp() override {
        std::array<int, 2> pair{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()), 0);
        here_.reset(pair[0]);
        there_.reset(pair[1]);
    }
    template <typename Message>
    int receive(Message& message) {
        return receive_message(there_.get(), message, passed_, MSG_DONTWAIT);
    }

    UniqueFd here_, there_, passed_;
};

TEST_F(Wire, RequestArrivesAsItWasSent) {
    Request sent;
    sent.kind = RequestKind::kGrow;
    sent.values[3] = 77;
    copy_text(sent.pool, "frames");
    ASSERT_EQ(send_message(here_.get(), sent), 0);
    Request got;
    ASSERT_EQ(receive(got), 0);
    EXPECT_EQ(got.kind, RequestKind::kGrow);
    EXPECT_EQ(got.values[3], 77U);
    EXPECT_EQ(text_of(got.pool), "frames");
    EXPECT_FALSE(passed_);
}

TEST_F(Wire, DescriptorArrivesWithItsMessageCloseOnExec) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    ASSERT_EQ(send_message(here_.get(), Reply{}, writer.get()), 0);
    writer.reset();
    Reply got;
    ASSERT_EQ(receive(got), 0);
    ASSERT_TRUE(passed_);
    EXPECT_NE(::fcntl(passed_.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(::write(passed_.get(), "x", 1), 1);
}

TEST_F(Wire, ADescriptorThatFindsNoRoomIsSaidToBeMissing) {
    ASSERT_EQ(send_message(here_.get(), Reply{}, here_.get()), 0);
    Reply sent;
    sent.values[1] = 77;
    ASSERT_EQ(send_message(here_.get(), sent, here_.get()), 0);
    ASSERT_EQ(send_message(here_.get(), Reply{}), 0);
    Reply got;
    ASSERT_EQ(receive(got), 0);
    passed_.reset();
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    rlimit none = before;
    none.rlim_cur = 0;  // what is open stays open
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    EXPECT_EQ(receive(got), EMFILE);
    EXPECT_EQ(got.values[1], 77U);  // the message itself is whole
    EXPECT_FALSE(passed_);
    EXPECT_EQ(receive(got), 0);  // nothing came with it
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(Wire, WrongSizesAndMagicAreRefused) {
    Request got;
    const std::vector<char> large(4096, 'x');
    for (const std::size_t size :
         {std::size_t{1}, sizeof(Request) - 1, sizeof(Request) + 1, large.size()}) {
        ASSERT_EQ(::send(here_.get(), large.data(), size, 0), static_cast<ssize_t>(size));
        EXPECT_EQ(receive(got), EPROTO) << size;
    }
    Request foreign;
    foreign.magic ^= 1;
    ASSERT_EQ(send_message(here_.get(), foreign), 0);
    EXPECT_EQ(receive(got), EPROTO);
    EXPECT_EQ(receive(got), EAGAIN);
}

TEST_F(Wire, UnaskedDescriptorsAreClosed) {
    // Four at once, of which the last is kept; then one with a message that is refused.
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    Request request;
    iovec part{&request, sizeof(request)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * 4);
    const std::array<int, 4> fds = {writer.get(), writer.get(), writer.get(), writer.get()};
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(fds));
    ASSERT_EQ(::sendmsg(here_.get(), &header, 0), static_cast<ssize_t>(sizeof(request)));
    request.magic = 0;
    ASSERT_EQ(send_message(here_.get(), request, writer.get()), 0);
    writer.reset();
    Request got;
    EXPECT_EQ(receive(got), 0);
    EXPECT_EQ(receive(got), EPROTO);
    passed_.reset();
    char byte = 0;
    EXPECT_EQ(::read(reader.get(), &byte, 1), 0);  // end of file: no writer is left
}

TEST_F(Wire, ClosedPeerIsToldFromAMessage) {
    here_.reset();
    Reply got;
    EXPECT_EQ(receive(got), ENOTCONN);
    EXPECT_EQ(send_message(there_.get(), Request{}), EPIPE);
}

TEST(WireText, IsCutToItsFieldAndReadWithoutTerminator) {
    char field[8];
    copy_text(field, "much too long");
    EXPECT_EQ(text_of(field), "much to");
    std::memset(field, 'x', sizeof(field));
    EXPECT_EQ(text_of(field), "xxxxxxxx");
    copy_text(field, "");
    EXPECT_EQ(text_of(field), "");
}

TEST(Names, OfPoolsAreShortAndPlain) {
    EXPECT_EQ(check_pool_name("frames-2_b"), "");
    EXPECT_EQ(check_pool_name(std::string(63, 'a')), "");
    for (const char* bad : {"", "a.b", "a/b", "..", "a b", "ä", "a\n"}) {
        EXPECT_NE(check_pool_name(bad), "") << bad;
    }
    EXPECT_NE(check_pool_name(std::string(64, 'a')), "");
    EXPECT_NE(check_pool_name(std::string_view("a\0b", 3)), "");
    EXPECT_EQ(object_name("p", 0), "/mempool.p");
    EXPECT_EQ(object_name("p", 12), "/mempool.p.12");
    EXPECT_EQ(object_name("p", 12, 0xabc), "/mempool.p.0000000000000abc");
    EXPECT_EQ(object_name("p", 0, ~0ULL), "/mempool.p.ffffffffffffffff");
}

TEST(WireData, ComesAfterItsReplyInOneMessage) {
    int ends[2] = {};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd here{ends[0]};
    const UniqueFd there{ends[1]};
    Reply reply;
    reply.kind = RequestKind::kRead;
    const std::string sent(kMaxReadBytes, 'd');
    ASSERT_EQ(send_data(here.get(), reply, sent.data(), sent.size()), 0);
    std::string got(kMaxReadBytes, '\0');
    std::size_t bytes = 0;
    ASSERT_EQ(receive_data(there.get(), reply, got.data(), got.size(), bytes), 0);
    EXPECT_EQ(bytes, sent.size());
    EXPECT_EQ(got, sent);
    ASSERT_EQ(send_data(here.get(), reply, sent.data(), sent.size()), 0);
    EXPECT_EQ(receive_data(there.get(), reply, got.data(), 100, bytes), EPROTO) << "cut off";
    ASSERT_EQ(::send(here.get(), sent.data(), 100, 0), 100);
    EXPECT_EQ(receive_data(there.get(), reply, got.data(), got.size(), bytes), EPROTO);
}

TEST(PoolIndex, SaysAgainWhatWasWritten) {
    PoolIndex index;
    index.pools["a"].uuid = {1, 2, 0xff};
    index.pools["a"].objects[0] = {.random = 5, .device = 6, .inode = 7};
    index.pools["a"].objects[3] = {.random = 0, .device = 0, .inode = 0};
    index.pools["b"].objects[0] = {.random = ~0ULL, .device = 0, .inode = 0};
    index.layouts["c"] = {.version = 3, .device = 8, .inode = ~0ULL};
    index.aside.push_back({.object = "mempool.a.aside-1", .reason = "two\nlines"});
    std::uint32_t bad_lines = 7;
    const PoolIndex again = parse_index(format_index(index), bad_lines);
    EXPECT_EQ(bad_lines, 0U);
    ASSERT_EQ(again.pools.size(), 2U);
    EXPECT_EQ(again.pools.at("a").objects, index.pools.at("a").objects);
    EXPECT_EQ(again.pools.at("a").uuid, index.pools.at("a").uuid);
    EXPECT_TRUE(again.pools.at("a").finished());
    EXPECT_FALSE(again.pools.at("b").finished());
    EXPECT_EQ(again.layouts, index.layouts);
    ASSERT_EQ(again.aside.size(), 1U);
    EXPECT_EQ(again.aside[0].reason, "two lines");
}

TEST(PoolIndex, LeavesOutLinesThatMakeNoSense) {
    const std::string uuid(32, '1');
    const std::string title = std::string(kIndexTitle) + '\n';
    const std::string sound = "segment p 0 mempool.p.000000000000000a 1 2 " + uuid;
    std::uint32_t bad_lines = 0;
    EXPECT_EQ(parse_index(title + sound, bad_lines).pools.size(), 1U);
    EXPECT_EQ(bad_lines, 0U);
    for (const std::string& line :
         {std::string("segment"), "segment ../p 0 mempool.p.000000000000000a 1 2 " + uuid,
          "segment p 0 mempool.q.000000000000000a 1 2 " + uuid,
          "segment p 0 mempool.p.0000000000000000 1 2 " + uuid,
          "segment p 256 mempool.p.000000000000000a 1 2 " + uuid,
          "segment p -1 mempool.p.000000000000000a 1 2 " + uuid,
          "segment p 0 mempool.p.a 1 2 " + uuid, "segment p 0 /etc/passwd 1 2 " + uuid,
          std::string("layout p 3 1"), std::string("layout p 3 1 2 "),
          std::string("layout ../p 3 1 2"), "segment p 0 mempool.p.000000000000000a x 2 " + uuid,
          sound + "1", "other " + sound}) {
        const PoolIndex index = parse_index(title + line, bad_lines);
        EXPECT_TRUE(index.pools.empty() && index.layouts.empty()) << line;
        EXPECT_EQ(bad_lines, 1U) << line;
    }
    EXPECT_TRUE(parse_index("mempool-index 2\n" + sound, bad_lines).pools.empty());
    EXPECT_TRUE(parse_index("", bad_lines).pools.empty());
}

}  // namespace
}  // namespace mempool::shm
