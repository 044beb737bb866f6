// What the log does with bytes that are no text, and with a reader that stands still.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/base/line_queue.hpp"
#include "daemon/base/text.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {
namespace {

TEST(Text, ThatIsPrintableStaysAsItIs) {
    const std::string text = "pool 'frames': \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 \\ ~";
    EXPECT_EQ(printable(text), text);
}

TEST(Text, ShowsControlCharactersByNumber) {
    EXPECT_EQ(printable("a\x1b[2J\n\x7f"), "a\\x1b[2J\\x0a\\x7f");
    EXPECT_EQ(printable("\xc2\x9b\x31m"), "\\xc2\\x9b1m");  // CSI in one character
    EXPECT_EQ(printable(std::string("\0z", 2)), "\\x00z");
}

TEST(Text, ShowsBytesThatAreNoUtf8ByNumber) {
    EXPECT_EQ(printable("\xff z"), "\\xff z");
    EXPECT_EQ(printable("\xc3"), "\\xc3");                             // cut off
    EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");                    // cut off
    EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
    EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
    EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond Unicode
}

TEST(Text, TheFirstStrangeByteIsNamed) {
    EXPECT_EQ(strange_byte("a\tb \xc3\xbc"), "");
    EXPECT_EQ(strange_byte("a\x1b\xff"), "0x1b");
}

TEST(Text, ShorteningCutsNoCharacter) {
    EXPECT_EQ(shortened("abc", 3), "abc");
    EXPECT_EQ(shortened("abcd", 3), "abc...");
    EXPECT_EQ(shortened("ab\xc3\xbc", 3), "ab...");
}

class LineQueueTest : public testing::Test {
protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        reader_.reset(ends[0]);
        writer_.reset(ends[1]);
    }
    // Leaked: its thread may stand in write().
    LineQueue& make() {
        const auto lost = [](std::uint64_t count) { return std::to_string(count) + " lost\n"; };
        static auto& kept = *new std::vector<LineQueue*>;  // so that they count as no leak
        return *kept.emplace_back(new LineQueue(writer_.release(), lost));
    }
    // Until `ending` has come.
    std::string read_until(const std::string& ending) {
        std::string all;
        std::array<char, 4096> part{};
        while (!all.ends_with(ending)) {
            const ssize_t got = ::read(reader_.get(), part.data(), part.size());
            if (got <= 0) {
                return all;
            }
            all.append(part.data(), static_cast<std::size_t>(got));
        }
        return all;
    }
    mempool::shm::UniqueFd reader_;
    mempool::shm::UniqueFd writer_;
};

TEST_F(LineQueueTest, BeforeItsThreadLinesAreWrittenAtOnce) {
    LineQueue& queue = make();
    queue.push("one\n");
    EXPECT_EQ(read_until("one\n"), "one\n");
    EXPECT_TRUE(queue.drain(std::chrono::milliseconds{0}));
}

TEST_F(LineQueueTest, ALineThatFindsNoRoomIsCountedAndPushNeverWaits) {
    LineQueue& queue = make();
    queue.start();
    const std::size_t many = 3 * LineQueue::kMostLines;
    for (std::size_t k = 0; k < many; ++k) {
        queue.push(std::string(100, '.') + " line " + std::to_string(k) + "\n");
    }
    EXPECT_FALSE(queue.drain(std::chrono::milliseconds{1}));
    const std::string last = " line " + std::to_string(many - 1) + "\n";
    // Each line is there or counted, and the newest are there.
    std::istringstream all(read_until(last));
    std::size_t written = 0;
    std::size_t lost = 0;
    for (std::string line; std::getline(all, line);) {
        if (line.ends_with(" lost")) {
            lost += std::stoull(line);
        } else {
            ++written;
        }
    }
    EXPECT_GT(lost, 0U);
    EXPECT_GE(written, LineQueue::kMostLines);
    EXPECT_EQ(written + lost, many);
    EXPECT_TRUE(queue.drain(std::chrono::seconds{60}));
}

}  // namespace
}  // namespace mempoold
