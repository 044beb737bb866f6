#include "daemon/control/requests.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "daemon/control/handlers.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;
using shm::Request;
using shm::RequestKind;

/// What a connection must be for a request to make sense on it. Who asks for something else is
/// hung up on; who may not is denied, by the handler or for kAdmin here.
enum class Needs : std::uint8_t {
    kNothing,
    kFresh,       ///< no pool yet
    kLooker,      ///< not attached
    kInspecting,  ///< a pool to look at
    kAttached,    ///< attached
    kAdmin,       ///< root, the daemon's user or admin_group
};

/// Which pool a request is about.
enum class About : std::uint8_t {
    kNone,
    kNamed,  ///< the one that it names; denied if there is none
    kOwn,    ///< the connection's
};

struct Handler {
    RequestKind kind;
    Needs needs;
    About about;
    const char* name;
    Answer (*handle)(Service& service, Conversation& c, const PoolPtr& pool,
                     const Request& request);
};

constexpr std::array<Handler, 13> kHandlers{{
    {RequestKind::kAttach, Needs::kFresh, About::kNamed, "an attach", attach},
    {RequestKind::kResume, Needs::kFresh, About::kNamed, "a resume", resume},
    {RequestKind::kSegment, Needs::kAttached, About::kOwn, "a request for a segment", segment},
    {RequestKind::kWantMore, Needs::kAttached, About::kOwn, "a wish for growth", want_more},
    {RequestKind::kBye, Needs::kNothing, About::kNone, "a goodbye", bye},
    {RequestKind::kInspect, Needs::kLooker, About::kNamed, "an inspect", inspect},
    {RequestKind::kList, Needs::kNothing, About::kNone, "a list", list},
    {RequestKind::kGrow, Needs::kAdmin, About::kNamed, "a grow", grow},
    {RequestKind::kReclaim, Needs::kAdmin, About::kNamed, "a reclaim", reclaim},
    {RequestKind::kStatus, Needs::kNothing, About::kNone, "a status", status},
    {RequestKind::kRepair, Needs::kAdmin, About::kNamed, "a repair", repair},
    {RequestKind::kRead, Needs::kInspecting, About::kOwn, "a request for metadata", read},
    {RequestKind::kEnd, Needs::kAdmin, About::kNamed, "an end", end_client},
}};

Answer dispatch(Service& service, Conversation& c, const Request& request) {
    const auto* found =
        std::find_if(kHandlers.begin(), kHandlers.end(),
                     [&](const Handler& handler) { return handler.kind == request.kind; });
    if (found == kHandlers.end()) {
        return hang_up(
            fmt::format("a request of unknown kind {}", static_cast<std::uint16_t>(request.kind)));
    }
    switch (found->needs) {
        case Needs::kNothing:
            break;
        case Needs::kFresh:
            if (c.pool) {
                return hang_up(fmt::format("{} on a connection that has a pool", found->name));
            }
            break;
        case Needs::kLooker:
            if (c.client) {
                return hang_up(fmt::format("{} on a connection that is attached", found->name));
            }
            break;
        case Needs::kInspecting:
            if (!c.pool || c.client) {
                return hang_up(fmt::format("{} before an inspect", found->name));
            }
            break;
        case Needs::kAttached:
            if (!c.client) {
                return hang_up(fmt::format("{} before an attach", found->name));
            }
            break;
        case Needs::kAdmin:
            if (!is_admin(c.peer, service.admin_group)) {
                return deny(EPERM, fmt::format("uid {} may not change pools: be root, the daemon's "
                                               "user or a member of admin_group",
                                               c.peer.uid));
            }
            break;
    }
    Answer none;
    const PoolPtr pool = found->about == About::kNamed ? find_pool(service, request, none)
                         : found->about == About::kOwn ? c.pool
                                                       : nullptr;
    if (found->about == About::kNamed && !pool) {
        return none;
    }
    return found->handle(service, c, pool, request);
}

}  // namespace

Answer handle_request(Service& service, Conversation& conversation, const Request& request) {
    Answer answer = dispatch(service, conversation, request);
    answer.reply.kind = request.kind;
    return answer;
}

bool RequestBudget::allow(uid_t uid, Clock::time_point now) {
    Left& left = left_.try_emplace(uid, Left{.requests = kMost, .since = now}).first->second;
    const double passed = std::chrono::duration<double>(now - left.since).count();
    left.requests = std::min(kMost, left.requests + passed * kPerSecond);
    left.since = now;
    if (left.requests < 1) {
        return false;
    }
    left.requests -= 1;
    return true;
}

std::string DescriptorBudget::explain() const {
    return fmt::format(
        "mempoold has no descriptor left for one client more: it may open {}, of which its pools "
        "take {}. End some clients, or raise LimitNOFILE (ulimit -n) of mempoold",
        most, pools);
}

Answer deny(int error, const std::string& text) {
    Answer answer;
    answer.reply = denial(error, text);
    return answer;
}

// Without the text of its code, which whoever gets the code adds.
Answer deny(const std::system_error& e) {
    const std::string text = e.what();
    const std::string ending = ": " + e.code().message();
    return deny(e.code().value(),
                text.ends_with(ending) ? text.substr(0, text.size() - ending.size()) : text);
}

Answer hang_up(std::string fault) {
    Answer answer;
    answer.action = Answer::Action::kHangUp;
    answer.fault = std::move(fault);
    return answer;
}

PoolPtr find_pool(const Service& service, const Request& request, Answer& answer) {
    const std::string_view name = shm::text_of(request.pool);
    if (name.size() == sizeof(request.pool)) {
        answer = hang_up("a pool's name without an end");
        return nullptr;
    }
    if (const std::string fault = shm::check_pool_name(name); !fault.empty()) {
        answer = deny(EINVAL, fault);
        return nullptr;
    }
    const auto found = service.pools.find(name);
    if (found == service.pools.end()) {
        answer = deny(ENOENT, fmt::format("mempoold serves no pool '{}'; mempoolctl list shows "
                                          "those it does",
                                          name));
        return nullptr;
    }
    if (found->second->storage().faulted()) {
        answer = deny(EIO, fmt::format("pool '{}' was truncated by somebody and is not served any "
                                       "more",
                                       name));
        return nullptr;
    }
    return found->second;
}

Answer deny_pool(const Conversation& c, const ServedPool& pool) {
    if (c.peer.uid == kNoUser) {
        return deny(EACCES, fmt::format("your user has no number in mempoold's user namespace, so "
                                        "pool '{}' can't name it: map it there, or set "
                                        "allow_users=*",
                                        pool.name()));
    }
    return deny(EACCES, fmt::format("uid {} may not use pool '{}': add it to allow_users or "
                                    "allow_groups of the pool",
                                    c.peer.uid, pool.name()));
}

shm::Reply denial(int error, const std::string& text) {
    shm::Reply reply;
    reply.error = error;
    shm::copy_text(reply.text, text);
    return reply;
}

shm::Reply version_mismatch(std::uint16_t theirs) {
    return denial(EPROTO,
                  fmt::format("the client speaks wire version {}, this mempoold {} speaks {}: use "
                              "matching releases",
                              theirs, MEMPOOLD_VERSION, shm::kWireVersion));
}

}  // namespace mempoold
