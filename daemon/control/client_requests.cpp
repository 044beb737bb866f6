// Requests of clients: attach, resume, segments, growth, goodbye.
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "daemon/control/handlers.hpp"
#include "daemon/supervision/token.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
namespace payload = mempool::shm::payload;
using shm::Request;

// The attachment that the request shows, if it proves it; nullptr with the reason in `answer`.
std::shared_ptr<Attachment> find_proved(Service& service, const PoolPtr& pool,
                                        const payload::Attachment& shown, Answer& answer) {
    auto client =
        shown.key == pool->storage().key() ? service.supervisor.find(*pool, shown.client) : nullptr;
    const bool ours = client && client->is_live() && client->is_proved_by(shown.token, shown.epoch);
    if (!ours || client->stage() == Attachment::Stage::kEnded) {
        answer = deny(ESTALE, fmt::format("client {} of pool '{}' has ended, or is another's: "
                                          "attach again",
                                          shown.client, pool->name()));
        return nullptr;
    }
    return client;
}

}  // namespace

Answer attach(Service& service, Conversation& c, const PoolPtr& pool, const Request& /*request*/) {
    if (!may_attach(c.peer, pool->config().access)) {
        return deny_pool(c, *pool);
    }
    errno = 0;
    UniqueFd pidfd = peer_pidfd(c.socket, c.peer, c.accepted_ticks);
    if (pidfd.get() >= service.budget.for_clients ||
        (!pidfd && (errno == EMFILE || errno == ENFILE))) {
        return deny(EMFILE, service.budget.explain());
    }
    if (!pidfd) {
        return deny(ESRCH,
                    "mempoold cannot see the process that connected: it has ended, or lives in a "
                    "pid namespace that mempoold's does not contain");
    }
    const std::uint64_t token = make_token();
    ClientIdentity client;
    client.process = identify(pidfd.get(), c.peer.pid);
    client.uid = c.peer.uid;
    client.gid = c.peer.gid;
    client.command = command_of(c.peer.pid);
    client.token_hash = hash_of_token(token);
    if (has_ended(pidfd.get())) {
        return deny(ESRCH, "the process that connected has ended");
    }
    if (const std::uint32_t most = pool->config().max_clients_per_user;
        most != 0 && pool->clients().count_of(client.uid) >= most) {
        return deny(EUSERS, fmt::format("uid {} is at its limit of {} clients of pool '{}': end "
                                        "some, or raise max_clients_per_user (a reload of mempoold "
                                        "is enough)",
                                        client.uid, most, pool->name()));
    }
    const auto id = pool->attach(client);
    if (!id) {
        return deny(EUSERS, fmt::format("pool '{}' is at its limit of {} clients: end some, or "
                                        "raise max_clients (a new pool is needed)",
                                        pool->name(), pool->clients().size() - 1));
    }
    try {
        c.client = service.supervisor.attach(pool, *id, std::move(pidfd));
    } catch (...) {
        pool->clients().remove(*id);  // it has done nothing yet
        throw;
    }
    c.pool = pool;
    c.client->serve(c.hang_up);
    log_debug("pool '{}': client {} (pid {}, {}) attached", pool->name(), raw(*id), c.peer.pid,
              client.command);
    Answer answer = reply_with(payload::Attachment{.client = raw(*id),
                                                   .key = pool->storage().key(),
                                                   .token = token,
                                                   .epoch = pool->clients().epoch(*id)});
    answer.passed_fd = pool->storage().segments().front().writable.get();
    return answer;
}

Answer resume(Service& service, Conversation& c, const PoolPtr& pool, const Request& request) {
    const auto shown = payload::of<payload::Attachment>(request);
    Answer answer;
    const auto client = find_proved(service, pool, shown, answer);
    if (!client) {
        return answer;
    }
    // Rights may have been taken away by a reload since, or by the process itself.
    if (!may_attach(c.peer, pool->config().access)) {
        return deny_pool(c, *pool);
    }
    UniqueFd pidfd = peer_pidfd(c.socket, c.peer, c.accepted_ticks);
    const ProcessId process = pidfd ? identify(pidfd.get(), c.peer.pid) : ProcessId{};
    const ProcessId& recorded = pool->clients().identity(client->id()).process;
    // A child has its parent's memory, and so the token; it is another process all the same.
    if (pidfd &&
        (!may_be(pidfd.get(), recorded) || (process.pid_namespace == recorded.pid_namespace &&
                                            process.pid != 0 && process.pid != recorded.pid))) {
        return deny(ESTALE, fmt::format("client {} of pool '{}' is another process's: attach again",
                                        shown.client, pool->name()));
    }
    client->resume(std::move(pidfd), process, c.hang_up);
    c.pool = pool;
    c.client = client;
    return reply_with(shown);
}

Answer segment(Service& /*service*/, Conversation& /*c*/, const PoolPtr& pool,
               const Request& request) {
    const auto& segments = pool->storage().segments();
    const auto wanted = payload::of<payload::Segment>(request);
    if (wanted.number >= segments.size()) {
        return deny(EINVAL, fmt::format("pool '{}' has {} segments, none with number {}",
                                        pool->name(), segments.size(), wanted.number));
    }
    Answer answer = reply_with(wanted);
    answer.passed_fd = segments[wanted.number].writable.get();
    return answer;
}

Answer want_more(Service& /*service*/, Conversation& /*c*/, const PoolPtr& pool,
                 const Request& /*request*/) {
    pool->consider_growth(ServedPool::Clock::now());
    Answer answer;
    answer.action = Answer::Action::kNothing;
    return answer;
}

// The connection of the client is closed once all that it had is back. One that was ended has none
// any more, and says its goodbye on another.
Answer bye(Service& service, Conversation& c, const PoolPtr& /*none*/, const Request& request) {
    const auto said = payload::of<payload::Bye>(request);
    std::shared_ptr<Attachment> client = c.client;
    if (!client) {
        Answer answer;
        const auto pool = find_pool(service, request, answer);
        client = pool && said.key == pool->storage().key()
                     ? service.supervisor.find(*pool, said.client)
                     : nullptr;
    }
    if (!client || !client->say_goodbye(said.token)) {
        return hang_up("a goodbye without the attachment's token");
    }
    Answer answer;
    answer.action = Answer::Action::kNothing;
    return answer;
}

}  // namespace mempoold
