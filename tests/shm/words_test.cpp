// The three kinds of words as values: what goes in comes out, and fields do not leak.
#include "mempool/shm/words/words.hpp"

#include <gtest/gtest.h>

namespace mempool::shm {
namespace {

constexpr std::uint32_t kAllOnes = 0xffff'ffff;

TEST(SlotWord, GivesBackWhatItWasMadeOf) {
    for (const std::uint32_t g : {0U, 1U, 0x8000'0000U, kAllOnes}) {
        for (const std::uint32_t p : {0U, 1U, 0x80'0000U, kMaxPlace}) {
            const SlotWord free = SlotWord::free(Generation{g}, MagazineId{p});
            EXPECT_EQ(free.state(), SlotState::kFree);
            EXPECT_EQ(free.generation(), Generation{g});
            EXPECT_EQ(free.magazine(), MagazineId{p});
            const SlotWord held = SlotWord::held(Generation{g}, ClientId{p});
            EXPECT_EQ(held.state(), SlotState::kHeld);
            EXPECT_EQ(held.generation(), Generation{g});
            EXPECT_EQ(held.client(), ClientId{p});
            const SlotWord shown = SlotWord::shown(Generation{g}, ClientId{p});
            EXPECT_EQ(shown.state(), SlotState::kShown);
            EXPECT_EQ(shown.generation(), Generation{g});
            EXPECT_EQ(shown.client(), ClientId{p});
        }
        const SlotWord detached = SlotWord::detached(Generation{g});
        EXPECT_EQ(detached.state(), SlotState::kDetached);
        EXPECT_EQ(detached.generation(), Generation{g});
    }
}

TEST(SlotWord, PlaceBeyondItsBitsTouchesNoOtherField) {
    const SlotWord word = SlotWord::free(Generation{7}, MagazineId{kAllOnes});
    EXPECT_EQ(word.generation(), Generation{7});
    EXPECT_EQ(word.magazine(), MagazineId{kMaxPlace});
    EXPECT_EQ(word.state(), SlotState::kFree);
}

TEST(SlotWord, TellsWhereItLiesWhateverTheGeneration) {
    const SlotWord free = SlotWord::free(Generation{kAllOnes}, MagazineId{5});
    EXPECT_TRUE(free.is_free_in(MagazineId{5}));
    EXPECT_FALSE(free.is_free_in(MagazineId{6}));
    EXPECT_FALSE(free.is_held_by(ClientId{5}));
    const SlotWord held = SlotWord::held(Generation{3}, ClientId{5});
    EXPECT_TRUE(held.is_held_by(ClientId{5}));
    EXPECT_FALSE(held.is_held_by(ClientId{4}));
    EXPECT_FALSE(held.is_free_in(MagazineId{5}));
    EXPECT_FALSE(SlotWord::detached(Generation{3}).is_held_by(ClientId{0}));
}

TEST(SlotWord, TellsWhoHoldsItAndWhetherItsHandleWasGivenOut) {
    const SlotWord free = SlotWord::free(Generation{3}, MagazineId{5});
    const SlotWord held = SlotWord::held(Generation{3}, ClientId{5});
    const SlotWord shown = SlotWord::shown(Generation{3}, ClientId{5});
    const SlotWord detached = SlotWord::detached(Generation{3}, ClientId{5});
    EXPECT_TRUE(held.is_held() && shown.is_held());
    EXPECT_FALSE(free.is_held() || detached.is_held());
    EXPECT_TRUE(shown.is_held_by(ClientId{5}));
    EXPECT_FALSE(shown.is_held_by(ClientId{4}));
    EXPECT_FALSE(detached.is_held_by(ClientId{5}));
    EXPECT_TRUE(shown.has_handle() && detached.has_handle());
    EXPECT_FALSE(free.has_handle() || held.has_handle());
}

TEST(SlotWord, ZeroIsAbsent) {
    EXPECT_EQ(SlotWord{}.state(), SlotState::kAbsent);
    EXPECT_FALSE(SlotWord{}.is_free_in(kNoMagazine));
}

TEST(Generation, GrowsByOneAndWraps) {
    EXPECT_EQ(next(Generation{1}), Generation{2});
    EXPECT_EQ(next(Generation{kAllOnes}), Generation{0});
}

TEST(MagazineWord, VersionGrowsAtEveryChangeAndWraps) {
    const MagazineWord word = MagazineWord::make(kAllOnes, MagazineState::kOwned, LaneId{9});
    EXPECT_EQ(word.state(), MagazineState::kOwned);
    EXPECT_EQ(word.lane(), LaneId{9});
    const MagazineWord later = word.next(MagazineState::kFull);
    EXPECT_EQ(later.version(), 0U);
    EXPECT_EQ(later.state(), MagazineState::kFull);
    EXPECT_EQ(later.lane(), LaneId{0});
    EXPECT_EQ(later.next(MagazineState::kOwned, LaneId{kMaxPlace}).lane(), LaneId{kMaxPlace});
}

TEST(LaneWord, GivesBackWhatItWasMadeOf) {
    const LaneWord word = LaneWord::make(12, LaneState::kOwned, ClientId{kMaxPlace});
    EXPECT_EQ(word.version(), 12U);
    EXPECT_EQ(word.state(), LaneState::kOwned);
    EXPECT_EQ(word.client(), ClientId{kMaxPlace});
    EXPECT_EQ(LaneWord{}.state(), LaneState::kFree);
}

}  // namespace
}  // namespace mempool::shm
