#include "crash/scenario.hpp"

#include <cstdio>
#include <utility>

#include "crash/stepper.hpp"
#include "mempool/shm/lane/waiting.hpp"

namespace mempool::test {

namespace {

using shm::Depot;
using shm::GetResult;
using shm::LaneId;
using shm::MagazineId;
using shm::PutResult;
using shm::Taken;
using shm::test::get_all;

int get_one(World& w) {
    Taken t;
    return w.victim->get(w.test.limit(), t) == GetResult::kOk ? 0 : kNothingLeft;
}

int put_one(World& w) {
    return w.victim->put(w.victim_holds.back(), w.test.limit()) == PutResult::kOk ? 0 : 2;
}

void take(World& w, std::size_t victim, std::size_t other) {
    w.victim_holds = get_all(*w.victim, w.test.limit(), victim);
    w.other_holds = get_all(*w.other, w.test.limit(), other);
}

void give_back(World& w, std::size_t count) {
    for (; count > 0; --count) {
        (void)w.victim->put_private(w.victim_holds.back());
        w.victim_holds.pop_back();
    }
}

// As `prepare`, and all handles were given out.
template <void (*prepare)(World&)>
void shown(World& w) {
    prepare(w);
    for (const Taken& t : w.victim_holds) {
        (void)w.victim->show(t);
    }
    for (const Taken& t : w.other_holds) {
        (void)w.other->show(t);
    }
}

void some_cached(World& w) {
    w.open_both();
    take(w, 1, 1);
}
// Both magazines of the victim are empty, so a get goes to the depot.
void both_empty(World& w) {
    w.open_both();
    take(w, 4, 1);
}
void loaded_empty_previous_not(World& w) {
    w.open_both();
    take(w, 4, 1);
    give_back(w, 3);  // 1 in one, 2 in the other
    Taken t;
    (void)w.victim->get(w.test.limit(), t);
    w.victim_holds.push_back(t);
}
void depot_empty(World& w) {
    w.open_both();
    take(w, 4, 8);
}
// Both magazines of the victim are full, so a put goes to the depot for room.
void both_full(World& w) {
    w.open_both();
    take(w, 6, 2);
    give_back(w, 4);
}
// As both_full, and no magazine is empty: the other lanes have three each, which are as many as
// there are without those for the slots, and what is in the depot has one slot each.
constexpr shm::test::PoolOptions kNoneEmpty{.slot_size = 65536, .slots = 16, .capacity = 2};

void both_full_none_empty(World& w) {
    w.open_both();
    take(w, 6, 10);
    give_back(w, 4);
    Depot depot(w.pool());
    for (std::uint32_t l = 4; l < w.pool().geometry().lane_count; ++l) {
        (void)try_claim_lane(w.pool(), LaneId{l}, kOther);
    }
    std::vector<MagazineId> empty;
    for (MagazineId m = depot.claim_room(LaneId{4}); m != shm::kNoMagazine;
         m = depot.claim_room(LaneId{4})) {
        empty.push_back(m);
    }
    for (; !w.other_holds.empty(); w.other_holds.pop_back(), empty.pop_back()) {
        const Taken t = w.other_holds.back();
        shm::Pool::items(w.pool().magazine(empty.back()))[0].store(raw(t.index));
        w.pool().word(t.index).store(shm::SlotWord::free(t.generation, empty.back()).bits);
        w.pool().magazine(empty.back()).count.store(1);
        depot.give(empty.back());
    }
}
void waited_for(World& w) {
    w.open_both();
    take(w, 4, 8);
    w.pool().live().waiters.store(1);
}
void other_holds_two(World& w) {
    w.open_both();
    take(w, 2, 2);
}
void other_detached_one(World& w) {
    other_holds_two(w);
    (void)w.other->detach(w.other_holds.back(), w.test.limit());
    w.victim_holds = {w.other_holds.back()};
    w.other_holds.pop_back();
}
void holds_six(World& w) {
    w.open_both();
    take(w, 6, 2);
}
void without_lane(World& w) {
    w.test.attach(kVictim);
    w.other.emplace(w.test.open(LaneId{3}, kOther));
}
void lane_claimed(World& w) {
    without_lane(w);
    (void)try_claim_lane(w.pool(), LaneId{2}, kVictim);
    w.victim.emplace(w.pool(), LaneId{2}, kVictim, 0);
}

// Nothing is left but what the other's idle lane has: the victim of the test is the thief.
void other_has_all_that_is_free(World& w) {
    w.open_both();
    take(w, 4, 8);
    for (int k = 0; k < 3; ++k) {
        (void)w.other->put_private(w.other_holds.back());
        w.other_holds.pop_back();
    }
}
// Nothing is free but three slots in the victim's two magazines.
void has_all_that_is_free(World& w) {
    w.open_both();
    take(w, 4, 8);
    give_back(w, 3);
}
void rob(World& w, std::size_t slots) {
    for (const Taken& t : get_all(*w.other, w.test.limit(), slots)) {
        w.other_holds.push_back(t);
    }
}
// The other has stolen one of the victim's two magazines.
void stolen_from(World& w) {
    has_all_that_is_free(w);
    rob(w, 1);
}
void robbed_of_both(World& w) {
    has_all_that_is_free(w);
    rob(w, 3);
}
// The handle was given out before the theft: to show() takes the slow way too, and mends.
void robbed_of_both_after_show(World& w) {
    has_all_that_is_free(w);
    (void)w.victim->show(w.victim_holds.back());
    rob(w, 3);
}

int adopt_from_other(World& w) {
    Taken t = w.other_holds.back();
    return w.victim->adopt(t, w.test.limit()) == PutResult::kOk ? 0 : 2;
}
int adopt_detached(World& w) {
    return w.victim->adopt(w.victim_holds.back(), w.test.limit()) == PutResult::kOk ? 0 : 2;
}
int detach_one(World& w) {
    return w.victim->detach(w.victim_holds.back(), w.test.limit()) == PutResult::kOk ? 0 : 2;
}
int show_one(World& w) { return w.victim->show(w.victim_holds.back()) == PutResult::kOk ? 0 : 2; }
int put_shown(World& w) {
    return w.victim->put_shown(w.victim_holds.back()) == PutResult::kOk ? 0 : 2;
}
int put_private(World& w) {
    return w.victim->put_private(w.victim_holds.back()) == PutResult::kOk ? 0 : 2;
}
int get_common(World& w) {
    shm::Held t;
    std::uint32_t options = 0;
    return w.victim->try_get(w.test.limit(), t, options)
               ? 0
               : get_one(w);  // a thief may have been there
}
int put_common(World& w) {
    return w.victim->try_put_private(w.victim->held(w.victim_holds.back())) ? 0 : put_private(w);
}
int put_twice(World& w) {
    (void)w.victim->put(w.victim_holds.back(), w.test.limit());
    return w.victim->put(w.victim_holds.back(), w.test.limit()) == PutResult::kStale ? 0 : 2;
}
int put_for_other(World& w) {
    return w.victim->put(w.other_holds.back(), w.test.limit()) == PutResult::kOk ? 0 : 2;
}
int claim_lane(World& w) { return try_claim_lane(w.pool(), LaneId{2}, kVictim) ? 0 : 2; }
int open_lane(World& w) { return w.victim->open() ? 0 : 2; }
int close_lane(World& w) {
    if (w.victim->close()) {
        free_lane(w.pool(), LaneId{2});
    }
    return 0;
}
int get_five(World& w) {
    std::uint32_t got = 0;
    const auto drop = [](shm::Held) {};
    const GetResult result = w.victim->get_bulk(w.test.limit(), 5, drop, got);
    return result == GetResult::kOk ? 0 : kNothingLeft;  // or less than five
}
int put_five(World& w) {
    std::size_t next = 0;
    const std::uint32_t put = w.victim->put_bulk<shm::Held>([&](shm::Held& held) {
        if (next == 5) {
            return false;
        }
        held = w.victim->held(w.victim_holds[next++]);
        return true;
    });
    return put == 5 ? 0 : 2;
}
int put_five_by_handle(World& w) {
    std::size_t next = 0;
    const std::uint32_t put = w.victim->put_bulk<Taken>([&](Taken& t) {
        if (next == 5) {
            return false;
        }
        t = w.victim_holds[next++];
        return true;
    });
    return put == 5 ? 0 : 2;
}
int wait_in_vain(World& w) {
    Taken t;
    const auto look = [&](shm::Turn turn) { return w.victim->get(w.test.limit(), t, turn); };
    const GetResult result =
        shm::wait(w.pool(), w.victim->record(), shm::MonotonicClock::time_point::min(), look,
                  {.patience = std::chrono::hours{1}});  // or it promises itself what others want
    return result == GetResult::kOk ? 0 : kNothingLeft;
}
int share(World& w) {
    w.victim->share();
    return 0;
}

}  // namespace

const std::vector<Scenario>& scenarios() {
    static const std::vector<Scenario> kAll = {
        {"GetFromLane", kSmall, some_cached, get_one},
        {"GetFromPrevious", kSmall, loaded_empty_previous_not, get_one},
        {"GetFromDepot", kSmall, both_empty, get_one, true},
        {"GetFromNothing", kSmall, depot_empty, get_one},
        {"Put", kSmall, shown<some_cached>, put_one},
        {"PutPrivate", kSmall, some_cached, put_private},
        {"PutShown", kSmall, shown<some_cached>, put_shown},
        {"GetCommon", kSmall, some_cached, get_common},
        {"PutCommon", kSmall, some_cached, put_common},
        {"PutTwice", kSmall, shown<some_cached>, put_twice},
        {"PutOfAnothers", kSmall, shown<other_holds_two>, put_for_other},
        {"PutThatNeedsRoom", kSmall, shown<both_full>, put_one, true},
        {"PutPrivateThatNeedsRoom", kSmall, both_full, put_private, true},
        {"PutThatFindsNoneEmpty", kNoneEmpty, shown<both_full_none_empty>, put_one, true},
        {"PutThatShares", kSmall, shown<waited_for>, put_one, true},
        {"Share", kSmall, some_cached, share, true},
        {"Steal", kSmall, other_has_all_that_is_free, get_one, true},
        {"GetAfterATheft", kSmall, stolen_from, get_one, true},
        {"PutAfterATheft", kSmall, stolen_from, put_private, true},
        {"GetAfterTheftOfBoth", kSmall, robbed_of_both, get_one, true},
        {"PutAfterTheftOfBoth", kSmall, robbed_of_both_after_show, put_one, true},
        {"CloseAfterATheft", kSmall, stolen_from, close_lane, true},
        {"GetBulk", kSmall, some_cached, get_five, true},
        {"PutBulk", kSmall, holds_six, put_five, true},
        {"PutBulkByHandle", kSmall, shown<holds_six>, put_five_by_handle, true},
        {"Wait", kSmall, depot_empty, wait_in_vain},
        {"WaitAndSteal", kSmall, other_has_all_that_is_free, wait_in_vain, true},
        {"Show", kSmall, some_cached, show_one},
        {"Adopt", kSmall, shown<other_holds_two>, adopt_from_other},
        {"AdoptDetached", kSmall, other_detached_one, adopt_detached},
        {"Detach", kSmall, some_cached, detach_one},
        {"DetachShown", kSmall, shown<some_cached>, detach_one},
        {"ClaimLane", kSmall, without_lane, claim_lane},
        {"OpenLane", kSmall, lane_claimed, open_lane},
        {"CloseLane", kSmall, some_cached, close_lane, true},
    };
    return kAll;
}

std::uint64_t stride_of(const Scenario& scenario) {
    constexpr std::uint64_t kMany = 1000;
    World world(scenario.options);
    scenario.prepare(world);
    Stepper child([&] { return scenario.run(world); });
    while (child.step()) {
    }
    return 1 + child.steps() / kMany;
}

std::string fault_after_death(World& world) {
    const shm::Census before = take_census(world.pool());
    const auto of_the_living = before.held_by[raw(kOther)];
    world.test.bury(kVictim);
    const shm::Census after = take_census(world.pool());
    if (after.held_by[raw(kVictim)] != 0 || after.held_by[raw(kOther)] != of_the_living ||
        after.detached != before.detached) {
        return "reclaim took from the living, or left something to the dead";
    }
    const shm::Reclaimed again = world.test.bury(kVictim);
    if (again.slots + again.magazines + again.lanes + again.hints != 0) {
        return "a second reclaim found more";
    }
    // Between its step and the lane's a waiter is counted once too often; the daemon's tick mends
    // that.
    if (world.pool().live().waiters.load() > 1) {
        return "a dead waiter is still counted";
    }
    world.test.pool().live().waiters.store(0);
    // The other goes on as if nothing had happened: returns what it holds, and leaves.
    for (const Taken& t : world.other_holds) {
        const shm::SlotWord word{world.pool().word(t.index).load()};
        const bool still = word.is_held_by(kOther) && word.generation() == t.generation;
        if ((shm::test::show_and_put(*world.other, t) == PutResult::kOk) != still) {
            return "the living could not return its slot";
        }
    }
    world.other->close();
    world.test.bury(kOther);
    return fault_at_rest(world.test, after.detached, raw(kChecker));
}

void summarize(const char* what, const std::string& operation, std::uint64_t instructions,
               std::uint64_t times, std::uint64_t faults) {
    std::printf("crash: %-14s %-32s %6llu instructions %6llu times %4llu faults\n", what,
                operation.c_str(), static_cast<unsigned long long>(instructions),
                static_cast<unsigned long long>(times), static_cast<unsigned long long>(faults));
}

}  // namespace mempool::test
