// Passes over all slots of a pool in service, in pieces: what the dead and the ended had, and what
// has been detached for too long.
#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/base/log.hpp"
#include "daemon/storage/erasure.hpp"
#include "daemon/supervision/served_pool.hpp"
#include "mempool/shm/recovery/census.hpp"
#include "mempool/shm/recovery/end_client.hpp"

namespace mempoold {

namespace shm = mempool::shm;

namespace {
/// Words that a pass looks at in one turn of the loop: about a millisecond.
constexpr std::size_t kLooksPerTurn = 100'000;
constexpr std::uint64_t kBatchBytes = std::uint64_t{64} << 20U;
constexpr std::uint64_t kBatchSlots = 16'384;
}  // namespace

std::size_t ServedPool::erase_batch() const noexcept {
    const std::uint64_t by_bytes = kBatchBytes / view().geometry().slot_stride;
    return config_.erase_on_put ? std::clamp<std::uint64_t>(by_bytes, 1, kBatchSlots) : 0;
}

// Does the next piece of `pass`. What begin_work() began ends with `done`.
template <typename Pass>
void ServedPool::carry_on(const std::shared_ptr<Pass>& pass, const std::function<void()>& done) {
    switch (is_given_up() ? shm::PassStep::kDone : pass->step(kLooksPerTurn)) {
        case shm::PassStep::kMore:
            worker_.take_turns([self = shared_from_this(), pass, done] {
                self->carry_on(pass, done);
                return true;
            });
            return;
        case shm::PassStep::kErase:
            erase(pass->held(), [self = shared_from_this(), pass, done] {
                pass->free_held();
                self->carry_on(pass, done);
            });
            return;
        case shm::PassStep::kDone:
            break;
    }
    end_work();
    done();
}

void ServedPool::erase(const std::vector<shm::HeldSlot>& slots, std::function<void()> done) {
    const auto erasure = std::make_shared<Erasure>(*storage_, slots);
    worker_.submit_steps(
        [self = shared_from_this(), erasure] { return self->given_up_ || erasure->step(); },
        [self = shared_from_this(), erasure, done = std::move(done)] {
            if (erasure->error() != 0) {
                log_error("pool '{}': slots could not be erased: {}", self->name(),
                          std::generic_category().message(erasure->error()));
            }
            done();
        });
}

namespace {
constexpr shm::ClientId kNobodyElse{~0U};

// Whether what a client owns is nobody's. Asked for each slot that somebody holds: a type of its
// own, so that no call is left of it.
struct Gone {
    const ClientTable* clients;
    shm::ClientId leaving;  // or kNobodyElse
    bool operator()(shm::ClientId c) const noexcept {
        return c == leaving || !clients->is_attached(c);
    }
};
using ReclaimPass = shm::Reclaim<Gone>;
using DetachedPass = shm::SlotPass<shm::DetachedSince>;
}  // namespace

void ServedPool::sweep(std::function<void(const Reclaimed&)> done) {
    restore();
    begin_work();
    const auto pass =
        std::make_shared<ReclaimPass>(view(), Gone{&clients_, kNobodyElse}, erase_batch());
    carry_on(pass, [pass, done = std::move(done)] { done(pass->result()); });
}

// Until it is done the id stays taken, so nobody else's slots are meant by it (I5).
void ServedPool::detach(shm::ClientId id, bool died, std::function<void(const Reclaimed&)> done) {
    restore();
    clients_.mark_dead(id);
    begin_work();
    const auto pass = std::make_shared<ReclaimPass>(view(), Gone{&clients_, id}, erase_batch());
    carry_on(pass, [this, pass, id, died, done = std::move(done)] {
        clients_.remove(id);
        if (died) {
            view().live().deaths.fetch_add(1, std::memory_order_relaxed);
        }
        done(pass->result());
    });
}

std::uint32_t ServedPool::shut_out(shm::ClientId id) const {
    return shm::shut_out(view(), id).busy;
}

void ServedPool::end_client(shm::ClientId id, bool force,
                            std::function<void(const EndedClient&)> done) {
    clients_.mark_ended(id);
    const shm::EndedLanes taken = shm::shut_out(view(), id);
    EndedClient result{.magazines = taken.magazines, .busy = taken.busy};
    const auto finish = [this, id, done = std::move(done)](EndedClient& ended) {
        ended.left = shm::take_census(view()).held_by[raw(id)];
        done(ended);
    };
    if (!force || taken.busy != 0) {
        finish(result);
        return;
    }
    begin_work();
    const auto pass =
        std::make_shared<shm::SlotPass<shm::HeldBy>>(view(), shm::HeldBy{id}, erase_batch());
    carry_on(pass, [this, pass, result, finish]() mutable {
        result.slots = pass->freed();
        view().live().reclaimed.fetch_add(result.slots, std::memory_order_relaxed);
        finish(result);
    });
}

void ServedPool::free_detached(std::uint64_t seconds, std::function<void(std::uint64_t)> done) {
    const std::uint64_t now = tick();
    const auto not_after = static_cast<std::uint32_t>(now > seconds ? now - seconds : 0);
    begin_work();
    const auto pass = std::make_shared<DetachedPass>(view(), shm::DetachedSince{&view(), not_after},
                                                     erase_batch());
    carry_on(pass, [pass, done = std::move(done)] { done(pass->freed()); });
}

}  // namespace mempoold
