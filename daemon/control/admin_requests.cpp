// Requests of operators: grow, reclaim, repair, end a client.
#include <cerrno>
#include <cstring>
#include <system_error>

#include "daemon/control/handlers.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
namespace payload = mempool::shm::payload;
using shm::Request;

Answer later() {
    Answer answer;
    answer.action = Answer::Action::kLater;
    return answer;
}

// Sends the reply to `request` once it is there. May be called when the connection is long gone.
auto reply_of(const Conversation& c, const Request& request) {
    return [reply = c.answer_late, kind = request.kind](Answer late) {
        late.reply.kind = kind;
        reply(late);
    };
}

}  // namespace

Answer grow(Service& /*service*/, Conversation& c, const PoolPtr& pool, const Request& request) {
    pool->grow(payload::of<payload::Grow>(request).slots, [reply = reply_of(c, request)](
                                                              const Growth& done) {
        reply(done.refused ? deny(*done.refused) : reply_with(payload::Grow{.slots = done.added}));
    });
    return later();
}

Answer reclaim(Service& service, Conversation& c, const PoolPtr& pool, const Request& request) {
    const std::uint64_t before = pool->view().live().reclaimed.load(std::memory_order_relaxed);
    const payload::Reclaimed swept{.clients = service.supervisor.sweep(*pool)};
    pool->sweep([pool, before, swept, reply = reply_of(c, request),
                 age = payload::of<payload::Reclaim>(request).detached_age](const auto& /*taken*/) {
        payload::Reclaimed done = swept;
        done.slots = pool->view().live().reclaimed.load(std::memory_order_relaxed) - before;
        if (age == ~std::uint64_t{0}) {
            reply(reply_with(done));
            return;
        }
        pool->free_detached(age, [done, reply](std::uint64_t freed) mutable {
            done.detached = freed;
            reply(reply_with(done));
        });
    });
    return later();
}

Answer repair(Service& /*service*/, Conversation& c, const PoolPtr& pool,
              const Request& /*request*/) {
    const shm::Repaired done = pool->repair();
    Answer answer = reply_with(payload::Repaired{
        .total = done.total(), .clients = pool->clients().count(), .kinds = done.mended.size()});
    static_assert(sizeof(done.mended) <= sizeof(answer.reply.text));
    std::memcpy(answer.reply.text, done.mended.data(), sizeof(done.mended));
    if (done.total() != 0) {
        log_info("pool '{}': repaired on request of uid {}: {} things mended", pool->name(),
                 c.peer.uid, done.total());
    }
    return answer;
}

// The daemon itself kills nobody: it passes the pidfd, and the operator's own rights decide.
Answer end_client(Service& service, Conversation& c, const PoolPtr& pool, const Request& request) {
    const auto wanted = payload::of<payload::End>(request);
    const auto client = service.supervisor.find(*pool, wanted.client);
    if (!client || !client->is_live() || wanted.epoch != pool->clients().epoch(client->id())) {
        return deny(ESRCH, fmt::format("pool '{}' has no such client {} any more: see mempoolctl "
                                       "clients {}",
                                       pool->name(), wanted.client, pool->name()));
    }
    const auto how = static_cast<shm::EndHow>(wanted.how);
    if (how == shm::EndHow::kKill) {
        if (client->pidfd() < 0) {
            return deny(ESRCH,
                        fmt::format("mempoold cannot see the process of client {}: end it "
                                    "where it runs; once you know that it has ended, --force "
                                    "takes its slots",
                                    wanted.client));
        }
        Answer answer = reply_with(payload::Ended{.alive = 1});
        answer.passed_fd = client->pidfd();
        return answer;
    }
    if (how != shm::EndHow::kRefuse && how != shm::EndHow::kForce) {
        return deny(EINVAL, "an unknown way to end a client: use matching releases");
    }
    log_info("pool '{}': uid {} ends client {}", pool->name(), c.peer.uid, wanted.client);
    const bool force = how == shm::EndHow::kForce;
    client->end_by_operator(force, [reply = reply_of(c, request), client, force,
                                    number = wanted.client](const Attachment::Ended& done) {
        reply(force && done.busy != 0
                  ? deny(EBUSY, fmt::format("client {} was ended, but keeps its slots: {} of its "
                                            "threads stand in the midst of an operation. Kill it "
                                            "(--kill), or try --force again once they have gone on",
                                            number, done.busy))
                  : reply_with(payload::Ended{.slots = done.slots,
                                              .magazines = done.magazines,
                                              .left = done.left,
                                              .alive = client->is_live() ? 1U : 0U}));
    });
    return later();
}

}  // namespace mempoold
