#include "daemon/control/read_requests.hpp"

#include <cerrno>

namespace mempoold {

namespace {

namespace shm = mempool::shm;

Answer deny_look(int error, const std::string& text) {
    Answer answer;
    answer.reply = refusal_reply(error, text);
    return answer;
}

Answer hang_up_on_looker(std::string fault) {
    Answer answer;
    answer.action = Answer::Action::kRefuse;
    answer.fault = std::move(fault);
    return answer;
}

bool may_look(const Service& service, const Conversation& c, const ServedPool& pool) {
    return may_attach(c.peer, pool.config().access) || is_admin(c.peer, service.admin_group);
}

Answer not_allowed_to_look(const Conversation& c, const ServedPool& pool) {
    return deny_look(EACCES,
                     fmt::format("uid {} may not look at pool '{}': add it to allow_users or "
                                 "allow_groups of the pool, or to admin_group",
                                 c.peer.uid, pool.name()));
}

}  // namespace

Answer inspect(const Service& service, Conversation& c, const std::shared_ptr<ServedPool>& pool) {
    if (c.client) {
        return hang_up_on_looker("an inspect on a connection that is attached");
    }
    if (!may_look(service, c, *pool)) {
        return not_allowed_to_look(c, *pool);
    }
    c.pool = pool;
    Answer answer;
    shm::payload::Inspected inspected;
    inspected.key = pool->storage().key();
    inspected.bytes = pool->storage().geometry().slots_offset;
    shm::payload::put(answer.reply, inspected);
    shm::copy_text(answer.reply.text, pool->storage().missing_names());
    return answer;
}

Answer read(const Service& service, const Conversation& c, const shm::Request& request) {
    if (!c.pool || c.client) {
        return hang_up_on_looker("a request for metadata before an inspect");
    }
    if (!may_look(service, c, *c.pool)) {
        return not_allowed_to_look(c, *c.pool);
    }
    const auto wanted = shm::payload::of<shm::payload::Read>(request);
    const std::uint64_t whole = c.pool->storage().geometry().slots_offset;
    if (wanted.bytes == 0 || wanted.bytes > shm::kMaxReadBytes || wanted.offset > whole ||
        wanted.bytes > whole - wanted.offset || wanted.offset % 8 != 0 || wanted.bytes % 8 != 0) {
        return deny_look(EINVAL, fmt::format("pool '{}' has {} bytes of metadata, to be read in "
                                             "multiples of 8 and at most {} at once",
                                             c.pool->name(), whole, shm::kMaxReadBytes));
    }
    Answer answer;
    answer.data.resize(wanted.bytes);
    c.pool->storage().copy_metadata(wanted.offset, wanted.bytes, answer.data.data());
    if (c.pool->storage().faulted()) {
        return deny_look(EIO, fmt::format("pool '{}' was truncated by somebody and is not served "
                                          "any more",
                                          c.pool->name()));
    }
    shm::payload::put(answer.reply, wanted);
    return answer;
}

}  // namespace mempoold
