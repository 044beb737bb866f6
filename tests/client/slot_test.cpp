// Getting and returning slots in one process.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "client/fixture.hpp"
#include "mempool/shm/recovery/end_client.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Handle;
using mempool::Slot;
using mempool::shm::SlotIndex;
using mempool::shm::SlotWord;

TEST(Slot, IsAlignedMemoryOfThePoolsSize) {
    const Served served;
    Client client = served.attach();
    const Slot slot = client.get();
    ASSERT_TRUE(slot);
    EXPECT_EQ(slot.size(), 128U);
    EXPECT_EQ(slot.span().size(), 128U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slot.data()) % 64, 0U);
    EXPECT_EQ(client.base() + slot.offset(), slot.data());
    EXPECT_TRUE(slot.handle());
}

TEST(Slot, IsEmptyWithoutOne) {
    const Slot slot;
    EXPECT_FALSE(slot);
    EXPECT_EQ(slot.data(), nullptr);
    EXPECT_EQ(slot.size(), 0U);
    EXPECT_EQ(slot.offset(), 0U);
    EXPECT_FALSE(slot.handle());
}

TEST(Slot, ReturnsToThePoolWhenItGoes) {
    const Served served;
    Client client = served.attach();
    {
        const Slot slot = client.get();
        EXPECT_EQ(served.pool.free_slots(), 63U);
    }
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Slot, MovesWithoutReturning) {
    const Served served;
    Client client = served.attach();
    Slot first = client.get();
    std::byte* data = first.data();
    Slot second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is what is tested
    EXPECT_EQ(second.data(), data);
    Slot third = client.get();
    third = std::move(second);
    EXPECT_EQ(third.data(), data);
    EXPECT_EQ(served.pool.free_slots(), 63U);
    Slot& same = third;
    third = std::move(same);
    EXPECT_EQ(third.data(), data);
    third.reset();
    third.reset();
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Client, GetsEverySlotOnceAndThenSaysExhausted) {
    const Served served;
    Client client = served.attach();
    std::vector<Slot> slots = get_all(client);
    EXPECT_EQ(slots.size(), 64U);
    std::set<std::byte*> places;
    for (const Slot& slot : slots) {
        std::memset(slot.data(), 0xab, slot.size());
        places.insert(slot.data());
    }
    EXPECT_EQ(places.size(), 64U);
    std::error_code error;
    EXPECT_FALSE(client.get(error));
    EXPECT_EQ(error, Errc::kExhausted);
    slots.clear();
    EXPECT_TRUE(client.get(error));
    EXPECT_FALSE(error);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Client, SaysWhatWasWrongWithAPut) {
    const Served served;
    Client client = served.attach();
    EXPECT_EQ(client.put(Slot{}), Errc::kEmptySlot);
    Slot slot = client.get();
    const Handle handle = slot.handle();
    EXPECT_FALSE(client.put(std::move(slot)));
    EXPECT_FALSE(slot);  // NOLINT(bugprone-use-after-move): put() empties it
    EXPECT_EQ(client.put(handle), Errc::kStale);
    EXPECT_EQ(client.put(Handle{}), Errc::kNoSuchSlot);
    EXPECT_EQ(client.put(Handle(64, 1)), Errc::kNoSuchSlot);
    EXPECT_EQ(client.put(Handle(~std::uint64_t{0})), Errc::kNoSuchSlot);
    EXPECT_EQ(client.put(Handle(handle.index(), handle.generation() + 1)), Errc::kStale);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Client, RefusesAHandleOfAnotherPool) {
    const Served served;
    const Served other;
    Client client = served.attach();
    Client stranger = other.attach();
    const Slot mine = client.get();
    Slot theirs = stranger.get();
    // Both fake pools count from the same generation; let one go on.
    for (int k = 0; k < 3; ++k) {
        theirs.reset();
        theirs = stranger.get();
    }
    EXPECT_EQ(client.put(theirs.handle()), Errc::kStale);
}

TEST(Client, ASecondPutOfACopiedHandleHarmsNobody) {
    const Served served;
    Client client = served.attach();
    Slot slot = client.get();
    const Handle handle = slot.handle();
    slot.reset();
    const Slot next = client.get();  // most likely the same slot, with a later generation
    EXPECT_EQ(client.put(handle), Errc::kStale);
    EXPECT_EQ(served.pool.free_slots(), 63U);
}

TEST(Client, ReturnsASlotToThePoolItCameFrom) {
    const Served served;
    const Served other;
    Client client = served.attach();
    Client stranger = other.attach();
    Slot slot = stranger.get();
    EXPECT_FALSE(client.put(std::move(slot)));
    EXPECT_EQ(other.pool.free_slots(), 64U);
}

TEST(Client, ReleaseForgetsTheSlotAndAPutByHandleReturnsIt) {
    const Served served;
    Client client = served.attach();
    Slot slot = client.get();
    const Handle handle = slot.release();
    EXPECT_FALSE(slot);
    EXPECT_EQ(served.pool.free_slots(), 63U);
    EXPECT_FALSE(client.put(handle));
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

// Whoever cleans a slot has it to himself: its handle is stale before the first byte is wiped.
TEST(Client, PutOfASlotToCleanMakesItsHandleStaleFirst) {
    const Served served({.slots = 8, .erase_on_put = true});
    Client client = served.attach();
    Slot slot = client.get();
    slot.set_tag(7);
    const Handle handle = slot.release();
    EXPECT_FALSE(client.put(handle));
    const mempool::shm::SlotWord word{
        served.pool.pool().word(mempool::shm::SlotIndex{handle.index()}).load()};
    EXPECT_EQ(word.state(), mempool::shm::SlotState::kFree);
    EXPECT_EQ(raw(word.generation()), handle.generation() + 1);
    EXPECT_EQ(client.put(handle), mempool::make_error_code(Errc::kStale));
    EXPECT_EQ(served.pool.free_slots(), 8U);
}

// The right index and generation of a slot whose handle nobody was given.
Handle guess(const Served& served, const Client& client, const Slot& slot) {
    const auto index = static_cast<std::uint32_t>(
        (slot.data() - client.base() -
         static_cast<std::ptrdiff_t>(served.pool.pool().geometry().slots_offset)) /
        static_cast<std::ptrdiff_t>(served.pool.pool().geometry().slot_stride));
    const SlotWord word{served.pool.pool().word(SlotIndex{index}).load()};
    return Handle(index, raw(word.generation()));
}

TEST(Handle, ThatNobodyWasGivenIsRefused) {
    const Served served;
    Client client = served.attach();
    Client stranger = served.attach();
    Slot slot = client.get();
    const Handle guessed = guess(served, client, slot);
    for (Client* who : {&client, &stranger}) {
        std::error_code error;
        EXPECT_EQ(who->put(guessed), Errc::kStale);
        EXPECT_EQ(who->put_bulk(std::span(&guessed, 1)), 0U);
        EXPECT_FALSE(who->adopt(guessed, error));
        EXPECT_EQ(error, Errc::kStale);
    }
    EXPECT_EQ(served.pool.free_slots(), 63U);
    EXPECT_EQ(slot.handle(), guessed);  // only now it is good
    EXPECT_FALSE(stranger.put(guessed));
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Handle, OfATaggedSlotThatNobodyWasGivenIsRefused) {
    const Served served;
    Client client = served.attach();
    Client stranger = served.attach();
    Slot slot = client.get();
    slot.set_tag(7);
    EXPECT_EQ(stranger.put(guess(served, client, slot)), Errc::kStale);
    EXPECT_FALSE(client.put(std::move(slot)));
}

TEST(Handle, StaysTheSameAndMovesWithItsSlot) {
    const Served served;
    Client client = served.attach();
    Slot slot = client.get();
    const Handle handle = slot.handle();
    ASSERT_TRUE(handle);
    EXPECT_EQ(slot.handle(), handle);
    Slot moved = std::move(slot);
    EXPECT_EQ(moved.handle(), handle);
    const SlotWord word{served.pool.pool().word(SlotIndex{handle.index()}).load()};
    EXPECT_EQ(word, SlotWord::shown(mempool::shm::Generation{handle.generation()},
                                    mempool::shm::ClientId{client.id()}));
    EXPECT_EQ(moved.release(), handle);
    EXPECT_FALSE(moved);
}

TEST(Handle, OfASlotThatWasTakenAwayIsEmpty) {
    const Served served;
    Client client = served.attach();
    Slot slot = client.get();
    Slot second = client.get();
    const std::uint64_t refused = served.pool.refused();
    // As an operator takes what an ended client holds.
    mempool::shm::take_from_ended(served.pool.pool(), mempool::shm::ClientId{client.id()}, nullptr);
    EXPECT_EQ(served.pool.free_slots(), 64U);
    EXPECT_FALSE(slot.handle());
    EXPECT_FALSE(slot.release());
    EXPECT_TRUE(slot);
    EXPECT_EQ(client.put(std::move(slot)), Errc::kStale);
    EXPECT_FALSE(second.detach());
    EXPECT_FALSE(second);
    EXPECT_EQ(served.pool.refused(), refused + 4);
    EXPECT_EQ(served.pool.free_slots(), 64U);
    EXPECT_EQ(get_all(client).size(), 64U);
}

TEST(Handle, IsGivenOutByAThreadWithoutALane) {
    const Served served({.slots = 8, .client_count = 2});
    Client client = served.attach();
    Slot slot = client.get();
    // Lanes are few: some of these threads work with the home lane.
    std::vector<std::thread> threads;
    std::vector<Slot> slots(served.pool.pool().geometry().lane_count);
    std::atomic<std::size_t> ready{0};
    for (std::size_t k = 0; k < slots.size(); ++k) {
        threads.emplace_back([&] {
            Slot mine = client.get();
            ++ready;
            while (ready < slots.size()) {
                std::this_thread::yield();
            }
            if (mine) {
                const Handle handle = mine.handle();
                EXPECT_TRUE(handle);
                EXPECT_FALSE(client.put(std::move(mine)));
                EXPECT_EQ(client.put(handle), Errc::kStale);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(served.pool.free_slots(), 7U);
}

TEST(Bulk, FillsFromTheFrontAndReturnsAll) {
    const Served served;
    Client client = served.attach();
    std::array<Slot, 40> some;
    EXPECT_EQ(client.get_bulk(some), 40U);
    std::array<Slot, 40> rest;
    EXPECT_EQ(client.get_bulk(rest), 24U);
    EXPECT_TRUE(rest[23]);
    EXPECT_FALSE(rest[24]);
    EXPECT_EQ(client.put_bulk(some), 40U);
    EXPECT_EQ(client.put_bulk(rest), 24U);
    EXPECT_EQ(client.put_bulk(rest), 0U);
    EXPECT_TRUE(std::none_of(some.begin(), some.end(), [](const Slot& s) { return bool(s); }));
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST(Bulk, ReturnsWhatTheSpanHeldFirst) {
    const Served served;
    Client client = served.attach();
    std::array<Slot, 64> slots;
    EXPECT_EQ(client.get_bulk(slots), 64U);
    EXPECT_EQ(client.get_bulk(slots), 64U);
    EXPECT_EQ(served.pool.free_slots(), 0U);
    EXPECT_EQ(client.get_bulk({}), 0U);
}

TEST(Bulk, CountsOnlyThePutsThatWereAccepted) {
    const Served served;
    Client client = served.attach();
    std::array<Slot, 4> slots;
    ASSERT_EQ(client.get_bulk(slots), 4U);
    ASSERT_FALSE(client.put(slots[2].handle()));
    EXPECT_EQ(client.put_bulk(slots), 3U);
}

TEST(EraseOnPut, ZeroesASlotBeforeItsNextHolderGetsIt) {
    const Served served({.slots = 1, .magazine_capacity = 1, .erase_on_put = true});
    Client client = served.attach();
    Slot slot = client.get();
    ASSERT_TRUE(slot);
    std::memset(slot.data(), 0x5a, slot.size());
    slot.reset();
    slot = client.get();
    ASSERT_TRUE(slot);
    EXPECT_TRUE(std::all_of(slot.span().begin(), slot.span().end(),
                            [](std::byte b) { return b == std::byte{0}; }));
}

TEST(EraseOnPut, LeavesTheNextHoldersBytesAloneAtAStalePut) {
    const Served served({.slots = 1, .magazine_capacity = 1, .erase_on_put = true});
    Client client = served.attach();
    Slot slot = client.get();
    const Handle old = slot.handle();
    slot.reset();
    slot = client.get();
    ASSERT_TRUE(slot);
    std::memset(slot.data(), 0x5a, slot.size());
    EXPECT_EQ(client.put(old), Errc::kStale);
    EXPECT_EQ(client.put(Handle(~std::uint64_t{0})), Errc::kNoSuchSlot);
    EXPECT_EQ(slot.data()[0], std::byte{0x5a});
}

TEST(EraseOnPut, IsAllThatASlotTakesOverOfThePoolsOptions) {
    const Served served;
    served.pool.pool().live().options.store(0xffff'fffeU);  // bits of nobody
    Client client = served.attach();
    Slot slot = client.get();
    slot.data()[0] = std::byte{1};
    EXPECT_FALSE(client.put(std::move(slot)));
    std::array<Slot, 3> slots;
    EXPECT_EQ(client.get_bulk(slots), 3U);
    EXPECT_EQ(client.put_bulk(slots), 3U);
}

TEST(Tag, StaysWithTheSlotUntilItIsReturned) {
    const Served served;
    Client client = served.attach();
    Slot slot = client.get();
    const mempool::shm::SlotIndex index{slot.handle().index()};
    slot.set_tag(99);
    EXPECT_EQ(served.pool.pool().record(index).tag.load(), 99U);
    slot.reset();
    EXPECT_EQ(served.pool.pool().record(index).tag.load(), 0U);
    Slot{}.set_tag(1);
}

TEST(Tag, OfASlotThatWasNeverShownGoesToo) {
    const Served served({.slots = 1, .magazine_capacity = 1});
    Client client = served.attach();
    Slot slot = client.get();
    slot.set_tag(99);
    EXPECT_EQ(served.pool.pool().record(SlotIndex{0}).tag.load(), 99U);
    EXPECT_FALSE(client.put(std::move(slot)));
    EXPECT_EQ(served.pool.pool().record(SlotIndex{0}).tag.load(), 0U);
    EXPECT_TRUE(client.get());
}

TEST(Tag, OfTheSenderGoesWhenTheReceiverReturnsTheSlot) {
    const Served served({.slots = 1, .magazine_capacity = 1});
    Client sender = served.attach();
    Client receiver = served.attach();
    Slot slot = sender.get();
    slot.set_tag(99);
    Slot received = receiver.adopt(slot.release());
    EXPECT_EQ(served.pool.pool().record(SlotIndex{0}).tag.load(), 99U);
    EXPECT_FALSE(receiver.put(std::move(received)));
    EXPECT_EQ(served.pool.pool().record(SlotIndex{0}).tag.load(), 0U);
}

TEST(Errors, HaveMessagesThatSayWhatToDo) {
    for (int value = 1; value <= static_cast<int>(Errc::kEnded); ++value) {
        const std::error_code code = static_cast<Errc>(value);
        EXPECT_STREQ(code.category().name(), "mempool");
        EXPECT_THAT(code.message(), testing::Not(testing::HasSubstr("unknown")));
    }
    EXPECT_THAT(mempool::error_category().message(1000), testing::HasSubstr("unknown"));
    EXPECT_EQ(mempool::error_category().message(0), "success");
}

}  // namespace
}  // namespace mempool_test
