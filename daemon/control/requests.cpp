#include "daemon/control/requests.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <system_error>
#include <utility>

#include "mempool/shm/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
using shm::Request;
using shm::RequestKind;

Answer failure(int error, const std::string& text) {
    Answer answer;
    answer.reply = refusal_reply(error, text);
    return answer;
}

Answer refusal(std::string fault) {
    Answer answer;
    answer.action = Answer::Action::kRefuse;
    answer.fault = std::move(fault);
    return answer;
}

Answer one_way(Answer::Action action) {
    Answer answer;
    answer.action = action;
    return answer;
}

// The pool that the request names; else `answer` says why there is none.
std::shared_ptr<ServedPool> find_pool(const Service& service, const Request& request,
                                      Answer& answer) {
    const std::string_view name = shm::text_of(request.pool);
    if (name.size() == sizeof(request.pool)) {
        answer = refusal("a pool's name without an end");
        return nullptr;
    }
    if (const std::string fault = shm::check_pool_name(name); !fault.empty()) {
        answer = failure(EINVAL, fault);
        return nullptr;
    }
    const auto found = service.pools.find(name);
    if (found == service.pools.end()) {
        answer = failure(ENOENT, fmt::format("mempoold serves no pool '{}'; mempoolctl list shows "
                                             "those it does",
                                             name));
        return nullptr;
    }
    if (found->second->storage().faulted()) {
        answer =
            failure(EIO, fmt::format("pool '{}' was truncated by somebody and is not served any "
                                     "more",
                                     name));
        return nullptr;
    }
    return found->second;
}

Answer not_allowed(const Conversation& c, const ServedPool& pool) {
    return failure(EACCES, fmt::format("uid {} may not use pool '{}': add it to allow_users or "
                                       "allow_groups of the pool",
                                       c.peer.uid, pool.name()));
}

Answer attach(Service& service, Conversation& c, const Request& request) {
    if (c.pool) {
        return refusal("a second attach on one connection");
    }
    Answer answer;
    const auto pool = find_pool(service, request, answer);
    if (!pool) {
        return answer;
    }
    if (!may_attach(c.peer, pool->config().access)) {
        return not_allowed(c, *pool);
    }
    UniqueFd pidfd = peer_pidfd(c.socket, c.peer, c.accepted_ticks);
    if (!pidfd || c.peer.pid <= 0) {
        return failure(ESRCH,
                       "mempoold cannot see the process that connected: it has ended, or lives "
                       "in a pid namespace that mempoold's does not contain");
    }
    ClientIdentity client;
    client.pid = c.peer.pid;
    client.uid = c.peer.uid;
    client.gid = c.peer.gid;
    client.start_time = start_time(c.peer.pid).value_or(0);
    client.command = command_of(c.peer.pid);
    if (has_ended(pidfd.get())) {
        return failure(ESRCH, "the process that connected has ended");
    }
    if (const std::uint32_t most = pool->config().max_clients_per_user;
        most != 0 && pool->clients().count_of(client.uid) >= most) {
        return failure(EUSERS, fmt::format("uid {} has its most clients of pool '{}' ({}): end "
                                           "some, or raise max_clients_per_user (a reload of "
                                           "mempoold is enough)",
                                           client.uid, pool->name(), most));
    }
    const auto id = pool->attach(client);
    if (!id) {
        return failure(EUSERS,
                       fmt::format("pool '{}' has its most clients ({}): raise max_clients (a "
                                   "new pool is needed) or end some",
                                   pool->name(), pool->clients().size() - 1));
    }
    c.pool = pool;
    c.client = service.supervisor.watch(pool, *id, std::move(pidfd));
    c.client->connected = true;
    log_debug("pool '{}': client {} (pid {}, {}) attached", pool->name(), raw(*id), client.pid,
              client.command);
    answer.reply.values[0] = raw(*id);
    answer.reply.values[1] = pool->storage().key();
    answer.passed_fd = pool->storage().segments().front().writable.get();
    return answer;
}

Answer resume(Service& service, Conversation& c, const Request& request) {
    if (c.pool) {
        return refusal("a second attach on one connection");
    }
    Answer answer;
    const auto pool = find_pool(service, request, answer);
    if (!pool) {
        return answer;
    }
    const std::uint64_t number = request.values[0];
    const shm::ClientId id{static_cast<std::uint32_t>(number)};
    const bool same_pool = request.values[1] == pool->storage().key();
    const auto client =
        same_pool && number < pool->clients().size() ? service.supervisor.find(*pool, id) : nullptr;
    const bool same_process =
        client && c.peer.pid > 0 && pool->clients().identity(id).pid == c.peer.pid;
    if (same_process && client->connected && client->on_end) {
        std::exchange(client->on_end,
                      nullptr)();  // the former connection, whose end may be under way
    }
    if (!same_process || client->ended) {
        return failure(ESTALE, fmt::format("client {} of pool '{}' is not this process's any more: "
                                           "attach anew",
                                           number, pool->name()));
    }
    client->connected = true;
    c.pool = pool;
    c.client = client;
    answer.reply.values[0] = number;
    answer.reply.values[1] = request.values[1];
    return answer;
}

Answer inspect(const Service& service, Conversation& c, const Request& request) {
    if (c.pool) {
        return refusal("an inspect on a connection that has a pool");
    }
    Answer answer;
    const auto pool = find_pool(service, request, answer);
    if (!pool) {
        return answer;
    }
    if (!may_attach(c.peer, pool->config().access) && !is_admin(c.peer, service.admin_group)) {
        return not_allowed(c, *pool);
    }
    c.pool = pool;
    answer.passed_fd = pool->storage().segments().front().read_only.get();
    return answer;
}

Answer segment(const Conversation& c, const Request& request) {
    if (!c.pool) {
        return refusal("a request for a segment before an attach");
    }
    const auto& segments = c.pool->storage().segments();
    const std::uint64_t number = request.values[0];
    if (number >= segments.size()) {
        return failure(EINVAL, fmt::format("pool '{}' has {} segments, none with number {}",
                                           c.pool->name(), segments.size(), number));
    }
    Answer answer;
    answer.reply.values[0] = number;
    answer.passed_fd = (c.client ? segments[number].writable : segments[number].read_only).get();
    return answer;
}

Answer list(const Service& service, const Request& request) {
    Answer answer;
    answer.reply.values[0] = service.pools.size();
    if (request.values[0] < service.pools.size()) {
        const auto at =
            std::next(service.pools.begin(), static_cast<std::ptrdiff_t>(request.values[0]));
        shm::copy_text(answer.reply.text, at->first);
    }
    return answer;
}

Answer status(const Service& service) {
    Answer answer;
    answer.reply.values[0] = static_cast<std::uint64_t>(::getpid());
    answer.reply.values[1] = service.started_at;
    shm::copy_text(answer.reply.text, MEMPOOLD_VERSION);
    return answer;
}

// The pool, for those who may change it; else `answer` says why not.
std::shared_ptr<ServedPool> find_for_admin(const Service& service, const Conversation& c,
                                           const Request& request, Answer& answer) {
    if (!is_admin(c.peer, service.admin_group)) {
        answer =
            failure(EPERM, fmt::format("uid {} may not change pools: be root, the daemon's user or "
                                       "a member of admin_group",
                                       c.peer.uid));
        return nullptr;
    }
    return find_pool(service, request, answer);
}

// What `e` says, without the text of its code, which whoever gets the code adds.
std::string message_of(const std::system_error& e) {
    const std::string text = e.what();
    const std::string ending = ": " + e.code().message();
    return text.ends_with(ending) ? text.substr(0, text.size() - ending.size()) : text;
}

Answer grow(const Service& service, const Conversation& c, const Request& request) {
    Answer answer;
    const auto pool = find_for_admin(service, c, request, answer);
    if (!pool) {
        return answer;
    }
    pool->grow(
        request.values[0], [reply = c.answer_later, kind = request.kind](const Growth& done) {
            Answer later = done.refused
                               ? failure(done.refused->code().value(), message_of(*done.refused))
                               : Answer{};
            later.reply.kind = kind;
            later.reply.values[0] = done.added;
            reply(later);
        });
    return one_way(Answer::Action::kLater);
}

Answer reclaim(Service& service, const Conversation& c, const Request& request) {
    Answer answer;
    const auto pool = find_for_admin(service, c, request, answer);
    if (!pool) {
        return answer;
    }
    const std::uint64_t before = pool->view().live().reclaimed.load(std::memory_order_relaxed);
    answer.reply.kind = request.kind;
    answer.reply.values[1] = service.supervisor.sweep(*pool);
    pool->sweep([pool, before, answer, age = request.values[0],
                 reply = c.answer_later](const auto& /*taken*/) mutable {
        answer.reply.values[0] =
            pool->view().live().reclaimed.load(std::memory_order_relaxed) - before;
        if (age == ~std::uint64_t{0}) {
            reply(answer);
            return;
        }
        pool->free_detached(age, [answer, reply](std::uint64_t freed) mutable {
            answer.reply.values[2] = freed;
            reply(answer);
        });
    });
    return one_way(Answer::Action::kLater);
}

Answer repair(const Service& service, const Conversation& c, const Request& request) {
    Answer answer;
    const auto pool = find_for_admin(service, c, request, answer);
    if (!pool) {
        return answer;
    }
    const shm::Repaired done = pool->repair();
    static_assert(sizeof(done.mended) <= sizeof(answer.reply.text));
    answer.reply.values[0] = done.total();
    answer.reply.values[1] = pool->clients().count();
    answer.reply.values[2] = done.mended.size();
    std::memcpy(answer.reply.text, done.mended.data(), sizeof(done.mended));
    if (done.total() != 0) {
        log_info("pool '{}': repaired on request of uid {}: {} things mended", pool->name(),
                 c.peer.uid, done.total());
    }
    return answer;
}

Answer dispatch(Service& service, Conversation& c, const Request& request) {
    switch (request.kind) {
        case RequestKind::kAttach:
            return attach(service, c, request);
        case RequestKind::kResume:
            return resume(service, c, request);
        case RequestKind::kSegment:
            return segment(c, request);
        case RequestKind::kWantMore:
            if (!c.client) {
                return refusal("a wish for growth before an attach");
            }
            c.pool->consider_growth(ServedPool::Clock::now());
            return one_way(Answer::Action::kNothing);
        case RequestKind::kBye:
            return c.client ? one_way(Answer::Action::kGoodbye)
                            : refusal("a goodbye before an attach");
        case RequestKind::kInspect:
            return inspect(service, c, request);
        case RequestKind::kList:
            return list(service, request);
        case RequestKind::kGrow:
            return grow(service, c, request);
        case RequestKind::kReclaim:
            return reclaim(service, c, request);
        case RequestKind::kRepair:
            return repair(service, c, request);
        case RequestKind::kStatus:
            return status(service);
        case RequestKind::kRead:
        case RequestKind::kEnd:
            break;
    }
    return refusal(
        fmt::format("a request of unknown kind {}", static_cast<std::uint16_t>(request.kind)));
}

}  // namespace

Answer handle_request(Service& service, Conversation& conversation, const Request& request) {
    Answer answer = dispatch(service, conversation, request);
    answer.reply.kind = request.kind;
    return answer;
}

shm::Reply refusal_reply(int error, const std::string& text) {
    shm::Reply reply;
    reply.error = error;
    shm::copy_text(reply.text, text);
    return reply;
}

shm::Reply version_mismatch(std::uint16_t theirs) {
    return refusal_reply(EPROTO,
                         fmt::format("the client speaks wire version {}, this mempoold {} speaks "
                                     "{}: use matching releases",
                                     theirs, MEMPOOLD_VERSION, shm::kWireVersion));
}

}  // namespace mempoold
