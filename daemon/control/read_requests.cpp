// Requests of those who look: status, list, and a pool's metadata.
//
// Gives out bytes of a pool's metadata and never a descriptor: a mapping that only reads still
// sleeps on the pool's futex, fills holes and reads what is in the slots.
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "daemon/control/handlers.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
namespace payload = mempool::shm::payload;
using shm::Request;

bool may_look(const Service& service, const Conversation& c, const ServedPool& pool) {
    return may_attach(c.peer, pool.config().access) || is_admin(c.peer, service.admin_group);
}

Answer deny_look(const Conversation& c, const ServedPool& pool) {
    return deny(EACCES, fmt::format("uid {} may not look at pool '{}': add it to allow_users or "
                                    "allow_groups of the pool, or to admin_group",
                                    c.peer.uid, pool.name()));
}

}  // namespace

Answer status(Service& service, Conversation& /*c*/, const PoolPtr& /*none*/,
              const Request& /*request*/) {
    Answer answer = reply_with(payload::Status{.pid = static_cast<std::uint64_t>(::getpid()),
                                               .started_at = service.started_at});
    shm::copy_text(answer.reply.text, MEMPOOLD_VERSION);
    return answer;
}

Answer list(Service& service, Conversation& /*c*/, const PoolPtr& /*none*/,
            const Request& request) {
    Answer answer = reply_with(payload::ListSize{.pools = service.pools.size()});
    const auto wanted = payload::of<payload::ListAt>(request);
    if (wanted.position < service.pools.size()) {
        const auto at =
            std::next(service.pools.begin(), static_cast<std::ptrdiff_t>(wanted.position));
        shm::copy_text(answer.reply.text, at->first);
    }
    return answer;
}

Answer inspect(Service& service, Conversation& c, const PoolPtr& pool, const Request& /*request*/) {
    if (!may_look(service, c, *pool)) {
        return deny_look(c, *pool);
    }
    c.pool = pool;
    Answer answer = reply_with(payload::Inspected{
        .key = pool->storage().key(), .bytes = pool->storage().geometry().slots_offset});
    shm::copy_text(answer.reply.text, pool->storage().missing_names());
    return answer;
}

Answer read(Service& service, Conversation& c, const PoolPtr& pool, const Request& request) {
    if (!may_look(service, c, *pool)) {
        return deny_look(c, *pool);
    }
    const auto wanted = payload::of<payload::Read>(request);
    const std::uint64_t whole = pool->storage().geometry().slots_offset;
    if (wanted.bytes == 0 || wanted.bytes > shm::kMaxReadBytes || wanted.offset > whole ||
        wanted.bytes > whole - wanted.offset || wanted.offset % 8 != 0 || wanted.bytes % 8 != 0) {
        return deny(EINVAL, fmt::format("pool '{}' has {} bytes of metadata, to be read in "
                                        "multiples of 8 and at most {} at once",
                                        pool->name(), whole, shm::kMaxReadBytes));
    }
    Answer answer = reply_with(wanted);
    answer.data.resize(wanted.bytes);
    pool->storage().copy_metadata(wanted.offset, wanted.bytes, answer.data.data());
    if (pool->storage().faulted()) {
        return deny(EIO, fmt::format("pool '{}' was truncated by somebody and is not served any "
                                     "more",
                                     pool->name()));
    }
    return answer;
}

}  // namespace mempoold
