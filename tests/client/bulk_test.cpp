// get_bulk() and put_bulk(): across magazines, short of slots, mixed, refused.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <span>
#include <system_error>
#include <vector>

#include "client/fixture.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Handle;
using mempool::Slot;

class BulkCalls : public testing::Test {
protected:
    std::vector<Slot> get(std::size_t count) {
        std::vector<Slot> slots(count);
        EXPECT_EQ(client_.get_bulk(slots), count);
        return slots;
    }
    [[nodiscard]] std::uint64_t held() const { return 64 - served_.pool.free_slots(); }
    static std::vector<Handle> release(std::vector<Slot>& slots) {
        std::vector<Handle> handles;
        handles.reserve(slots.size());
        for (Slot& slot : slots) {
            handles.push_back(slot.release());
        }
        return handles;
    }

    const Served served_{{.slots = 64, .magazine_capacity = 4}};
    Client client_ = served_.attach();
};

TEST_F(BulkCalls, GetsDistinctSlotsAcrossMagazinesAndReturnsThemAll) {
    for (const std::size_t count : {0U, 1U, 3U, 4U, 5U, 33U, 64U}) {
        std::vector<Slot> slots = get(count);
        std::set<std::uint64_t> offsets;
        for (Slot& slot : slots) {
            EXPECT_EQ(slot.size(), client_.slot_size());
            EXPECT_EQ(client_.base() + slot.offset(), slot.data());
            offsets.insert(slot.offset());
        }
        EXPECT_EQ(offsets.size(), count);
        EXPECT_EQ(held(), count);
        EXPECT_EQ(client_.put_bulk(slots), count);
        EXPECT_EQ(held(), 0U);
        for (const Slot& slot : slots) {
            EXPECT_FALSE(slot);
        }
    }
}

TEST_F(BulkCalls, GivesWhatThereIsAndKeepsIt) {
    const std::vector<Slot> most = get(60);
    std::vector<Slot> slots(10);
    std::error_code error;
    EXPECT_EQ(client_.get_bulk(slots, error), 4U);
    EXPECT_EQ(error, Errc::kExhausted);
    EXPECT_TRUE(slots[3]);
    EXPECT_FALSE(slots[4]);
    slots.resize(4);
    EXPECT_EQ(client_.get_bulk(slots, error), 4U);
    EXPECT_FALSE(error);
}

TEST_F(BulkCalls, AGetThatStopsShortSaysWhy) {
    std::vector<Slot> slots(2);
    std::error_code error = Errc::kStale;
    EXPECT_EQ(client_.get_bulk({}, error), 0U);
    EXPECT_FALSE(error);
    const std::vector<Slot> all = get(64);  // so that there is a lane, and nothing left
    EXPECT_EQ(client_.get_bulk(slots, error), 0U);
    EXPECT_EQ(error, Errc::kExhausted);
    client_.close();
    EXPECT_EQ(client_.get_bulk(slots, error), 0U);
    EXPECT_EQ(error, Errc::kClosed);
}

TEST_F(BulkCalls, ReturnsFirstWhatTheSlotsHold) {
    std::vector<Slot> slots = get(64);
    EXPECT_EQ(client_.get_bulk(slots), 64U);
    EXPECT_EQ(held(), 64U);
}

TEST_F(BulkCalls, PutSkipsTheEmptyAndTakesThoseOfOtherClientsToo) {
    Client other = served_.attach();
    std::vector<Slot> slots = get(6);
    slots[0].reset();
    slots[2] = other.get();
    (void)slots[4].handle();  // others may know it: returned by compare-and-swap
    slots[5].set_tag(7);
    EXPECT_EQ(client_.put_bulk(slots), 5U);
    EXPECT_EQ(held(), 0U);
    EXPECT_EQ(client_.put_bulk(std::span<Slot>{}), 0U);
}

TEST_F(BulkCalls, PutOfHandlesTakesEachOnce) {
    std::vector<Slot> slots = get(40);
    std::vector<Handle> handles = release(slots);
    Client receiver = served_.attach();
    EXPECT_EQ(receiver.put_bulk(handles), 40U);
    EXPECT_EQ(held(), 0U);
    EXPECT_EQ(receiver.put_bulk(handles), 0U);
    EXPECT_EQ(get(64).size(), 64U);
}

TEST_F(BulkCalls, ReleaseGivesEachHandleAndPassesOverTheRest) {
    Client other = served_.attach();
    std::vector<Slot> slots = get(6);
    slots[0].reset();
    slots[2] = other.get();
    const Handle shown = slots[4].handle();
    const Handle gone = slots[5].handle();
    ASSERT_FALSE(other.put(gone));
    std::vector<Handle> handles(6, shown);
    EXPECT_EQ(client_.release_bulk(slots, handles), 5U);
    EXPECT_FALSE(handles[0]);
    EXPECT_EQ(handles[4], shown);
    EXPECT_EQ(handles[5], gone);  // as it was given before; now it is stale
    EXPECT_EQ(held(), 4U);
    EXPECT_EQ(other.put_bulk(handles), 4U);
    EXPECT_EQ(held(), 0U);
}

TEST_F(BulkCalls, ReleaseOfNeverShownSlotsIsOneRun) {
    std::vector<Slot> slots = get(40);
    std::vector<Handle> handles(40);
    EXPECT_EQ(client_.release_bulk(slots, handles), 40U);
    for (std::size_t k = 0; k < slots.size(); ++k) {
        EXPECT_FALSE(slots[k]);
        EXPECT_TRUE(handles[k]);
    }
    EXPECT_EQ(client_.put_bulk(handles), 40U);
    EXPECT_EQ(client_.release_bulk(slots, handles), 0U);  // nothing is left to release
    EXPECT_FALSE(handles[0]);
}

TEST_F(BulkCalls, PutOfHandlesLeavesTheSoundOnesAloneBesideTheWrong) {
    std::vector<Slot> slots = get(8);
    std::vector<Handle> handles = release(slots);
    handles.insert(handles.begin() + 2, handles[1]);                          // twice
    handles.insert(handles.begin() + 5, Handle{});                            // empty
    handles.insert(handles.begin() + 7, Handle{~std::uint64_t{0}});           // no such slot
    handles.emplace_back(handles[0].index(), handles[0].generation() + 17U);  // never made
    EXPECT_EQ(client_.put_bulk(handles), 8U);
    EXPECT_EQ(held(), 0U);
}

TEST_F(BulkCalls, ClientOfAPoolThatErasesReturnsCleanSlots) {
    const Served erasing({.slots = 16, .magazine_capacity = 4, .erase_on_put = true});
    Client client = erasing.attach();
    std::vector<Slot> slots(16);
    ASSERT_EQ(client.get_bulk(slots), 16U);
    for (Slot& slot : slots) {
        slot.data()[3] = std::byte{9};
    }
    std::vector<Slot> by_handle(std::make_move_iterator(slots.begin()),
                                std::make_move_iterator(slots.begin() + 8));
    EXPECT_EQ(client.put_bulk(slots), 8U);
    EXPECT_EQ(client.put_bulk(release(by_handle)), 8U);
    ASSERT_EQ(client.get_bulk(slots), 16U);
    for (const Slot& slot : slots) {
        EXPECT_EQ(slot.data()[3], std::byte{0});
    }
}

}  // namespace
}  // namespace mempool_test
