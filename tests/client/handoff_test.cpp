// Slots that go from one client to another, by their handles.
#include <cstdint>
#include <cstring>
#include <system_error>
#include <utility>

#include "client/fixture.hpp"

namespace mempool_test {
namespace {

using mempool::Client;
using mempool::Errc;
using mempool::Handle;
using mempool::Slot;

class Handoff : public testing::Test {
protected:
    Served served;
    Client sender = served.attach();
    Client receiver = served.attach();
};

TEST_F(Handoff, ADetachedSlotIsAdoptedByAnotherClient) {
    Slot slot = sender.get();
    std::memcpy(slot.data(), "hello", 6);
    const std::uint64_t offset = slot.offset();
    const Handle handle = slot.detach();
    EXPECT_FALSE(slot);
    ASSERT_TRUE(handle);
    std::error_code error;
    Slot received = receiver.adopt(Handle(handle.value()), error);
    ASSERT_TRUE(received) << error.message();
    EXPECT_EQ(received.offset(), offset);
    EXPECT_STREQ(reinterpret_cast<const char*>(received.data()), "hello");
    received.reset();
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST_F(Handoff, ASlotStillHeldIsAdoptedAwayFromItsHolder) {
    Slot slot = sender.get();
    const Handle handle = slot.release();
    const Slot received = receiver.adopt(handle);
    EXPECT_TRUE(received);
    EXPECT_EQ(served.pool.free_slots(), 63U);
}

TEST_F(Handoff, AHandleIsGoodForOneAdoption) {
    Client second = served.attach();
    const Handle handle = sender.get().detach();
    Slot received = receiver.adopt(handle);
    ASSERT_TRUE(received);
    EXPECT_NE(received.handle().value(), handle.value());
    std::error_code error;
    EXPECT_FALSE(second.adopt(handle, error));  // delivered twice
    EXPECT_EQ(error, Errc::kStale);
    EXPECT_EQ(second.put(handle), Errc::kStale);
    EXPECT_EQ(served.pool.free_slots(), 63U);
    const Slot passed_on = second.adopt(received.release());
    EXPECT_TRUE(passed_on);
}

TEST_F(Handoff, ASenderThatStillHasItsSlotReturnsNothingOfTheReceivers) {
    Slot sent = sender.get();
    Slot received = receiver.adopt(sent.handle());
    ASSERT_TRUE(received);
    const std::uint64_t refused = served.pool.refused();
    EXPECT_EQ(sender.put(std::move(sent)), Errc::kStale);
    EXPECT_EQ(served.pool.refused(), refused + 1);
    EXPECT_EQ(served.pool.free_slots(), 63U);
    EXPECT_FALSE(receiver.put(std::move(received)));
    EXPECT_EQ(get_all(receiver).size(), 64U);
}

TEST_F(Handoff, AReceiversSlotIsNotTakenByItsGuessedHandle) {
    const Handle sent = sender.get().release();
    Slot received = receiver.adopt(sent);
    ASSERT_TRUE(received);
    const Handle next(sent.index(), sent.generation() + 1);
    EXPECT_EQ(sender.put(next), Errc::kStale);
    EXPECT_EQ(received.handle(), next);
    EXPECT_FALSE(sender.put(next));
    EXPECT_EQ(receiver.put(std::move(received)), Errc::kStale);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST_F(Handoff, AShownSlotIsDetachedUnderTheSameHandle) {
    Slot slot = sender.get();
    const Handle handle = slot.handle();
    EXPECT_EQ(slot.detach(), handle);
    EXPECT_FALSE(slot);
    EXPECT_TRUE(receiver.adopt(handle));
}

TEST_F(Handoff, AStaleHandleIsNotAdopted) {
    Slot slot = sender.get();
    const Handle handle = slot.handle();
    slot.reset();
    std::error_code error;
    EXPECT_FALSE(receiver.adopt(handle, error));
    EXPECT_EQ(error, Errc::kStale);
    EXPECT_FALSE(receiver.adopt(Handle(12345, 1), error));
    EXPECT_EQ(error, Errc::kNoSuchSlot);
    EXPECT_FALSE(receiver.adopt(Handle{}));
}

TEST_F(Handoff, DetachOfASlotThatWasTakenAwayGivesNoHandle) {
    Slot slot = sender.get();
    Slot taken = receiver.adopt(slot.handle());
    ASSERT_TRUE(taken);
    EXPECT_FALSE(slot.detach());
    EXPECT_FALSE(Slot{}.detach());
}

TEST_F(Handoff, ADetachedSlotCanBeReturnedByItsHandle) {
    const Handle handle = sender.get().detach();
    EXPECT_FALSE(receiver.put(handle));
    EXPECT_EQ(receiver.put(handle), Errc::kStale);
    EXPECT_EQ(served.pool.free_slots(), 64U);
}

TEST_F(Handoff, ADetachedSlotOutlivesItsClient) {
    Handle handle;
    {
        Client one = served.attach();
        handle = one.get().detach();
    }
    EXPECT_TRUE(receiver.adopt(handle));
}

}  // namespace
}  // namespace mempool_test
