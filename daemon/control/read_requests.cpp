// Requests of those who look: status, list, and a pool's metadata.
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "daemon/control/handlers.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
namespace payload = mempool::shm::payload;
using shm::Request;

}  // namespace

Answer status(Service& service, Conversation& /*c*/, const Request& /*request*/) {
    Answer answer = reply_with(payload::Status{.pid = static_cast<std::uint64_t>(::getpid()),
                                               .started_at = service.started_at});
    shm::copy_text(answer.reply.text, MEMPOOLD_VERSION);
    return answer;
}

Answer list(Service& service, Conversation& /*c*/, const Request& request) {
    Answer answer = reply_with(payload::ListSize{.pools = service.pools.size()});
    const auto wanted = payload::of<payload::ListAt>(request);
    if (wanted.position < service.pools.size()) {
        const auto at =
            std::next(service.pools.begin(), static_cast<std::ptrdiff_t>(wanted.position));
        shm::copy_text(answer.reply.text, at->first);
    }
    return answer;
}

Answer inspect(Service& service, Conversation& c, const Request& request) {
    Answer answer;
    const auto pool = find_pool(service, request, answer);
    if (!pool) {
        return answer;
    }
    if (!may_attach(c.peer, pool->config().access) && !is_admin(c.peer, service.admin_group)) {
        return deny_pool(c, *pool);
    }
    c.pool = pool;
    answer.passed_fd = pool->storage().segments().front().read_only.get();
    return answer;
}

Answer read(Service& /*service*/, Conversation& /*c*/, const Request& /*request*/) {
    return deny(EOPNOTSUPP, "not yet");
}

}  // namespace mempoold
