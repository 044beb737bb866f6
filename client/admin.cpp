#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "connection.hpp"
#include "fault_names.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempool {
namespace {

/// What a kReclaim carries to leave detached slots alone.
constexpr std::uint64_t kNoAge = ~std::uint64_t{0};

template <typename Payload>
shm::Request request_about(shm::RequestKind kind, std::string_view pool, const Payload& payload) {
    if (const std::string fault = shm::check_pool_name(pool); !fault.empty()) {
        throw Error(EINVAL, std::generic_category(), fault);
    }
    shm::Request request = detail::make_request(kind, pool);
    shm::payload::put(request, payload);
    return request;
}

shm::Request end_request(std::string_view pool, std::uint32_t id, std::uint32_t epoch,
                         shm::EndHow how) {
    return request_about(
        shm::RequestKind::kEnd, pool,
        shm::payload::End{.client = id, .epoch = epoch, .how = static_cast<std::uint64_t>(how)});
}

}  // namespace

struct Admin::Impl {
    explicit Impl(const AttachOptions& options) : link(options) { link.connect(); }
    detail::Connection link;
};

Admin::Admin(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Admin::Admin(Admin&&) noexcept = default;
Admin& Admin::operator=(Admin&&) noexcept = default;
Admin::~Admin() = default;

Admin Admin::connect(const AttachOptions& options) {
    return Admin(std::make_unique<Impl>(options));
}

std::uint64_t Admin::grow(std::string_view pool, std::uint64_t slots) {
    using shm::payload::Grow;
    const shm::Reply reply = impl_->link.call_patiently(
        request_about(shm::RequestKind::kGrow, pool, Grow{.slots = slots}));
    return shm::payload::of<Grow>(reply).slots;
}

ReclaimReport Admin::reclaim(std::string_view pool,
                             std::optional<std::chrono::seconds> detached_age) {
    shm::payload::Reclaim wanted{.detached_age = kNoAge};
    if (detached_age) {
        wanted.detached_age =
            static_cast<std::uint64_t>(std::max<std::int64_t>(detached_age->count(), 0));
    }
    const auto done = shm::payload::of<shm::payload::Reclaimed>(
        impl_->link.call_patiently(request_about(shm::RequestKind::kReclaim, pool, wanted)));
    return {.clients = done.clients, .slots = done.slots, .detached = done.detached};
}

EndReport Admin::end_client(std::string_view pool, std::uint32_t id, std::uint32_t epoch,
                            bool force) {
    const auto done = shm::payload::of<shm::payload::Ended>(impl_->link.call(
        end_request(pool, id, epoch, force ? shm::EndHow::kForce : shm::EndHow::kRefuse)));
    return {.slots = done.slots,
            .magazines = done.magazines,
            .left = done.left,
            .alive = done.alive != 0};
}

// By the pidfd that the daemon passes: a pid may be another process's by now, and means nothing in
// another namespace.
void Admin::kill_client(std::string_view pool, std::uint32_t id, std::uint32_t epoch) {
    constexpr int kPatienceMs = 10'000;
    shm::UniqueFd pidfd;
    impl_->link.call(end_request(pool, id, epoch, shm::EndHow::kKill), &pidfd);
    const std::string who = "the process of client " + std::to_string(id);
    if (!pidfd) {
        throw Error(EPROTO, std::generic_category(), "mempoold passed no hold of " + who);
    }
    if (::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH) {
        throw Error(errno, std::generic_category(),
                    "cannot kill " + who + ": run this as root or as its user");
    }
    pollfd ended{pidfd.get(), POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&ended, 1, kPatienceMs);
    } while (ready < 0 && errno == EINTR);
    if (ready != 1) {
        throw Error(ETIMEDOUT, std::generic_category(),
                    who + " was killed and has not ended yet: it is stuck in the kernel");
    }
}

RepairReport Admin::repair(std::string_view pool) {
    shm::Reply reply;
    try {
        reply = impl_->link.call(
            request_about(shm::RequestKind::kRepair, pool, shm::payload::Repaired{}));
    } catch (const Error& e) {
        if (e.code() != std::errc::connection_reset) {
            throw;
        }
        // It has ended meanwhile, or doesn't know the request. If it answers another, the latter.
        throw Error(EOPNOTSUPP, std::generic_category(),
                    daemon_version() + " does not know how to repair a pool: use a newer release");
    }
    RepairReport report;
    const auto done = shm::payload::of<shm::payload::Repaired>(reply);
    report.clients = done.clients;
    std::array<std::uint64_t, sizeof(reply.text) / sizeof(std::uint64_t)> counts{};
    std::memcpy(counts.data(), reply.text, sizeof(reply.text));
    const std::size_t kinds = std::min<std::uint64_t>(done.kinds, counts.size());
    for (std::size_t fault = 0; fault < kinds; ++fault) {
        if (counts.at(fault) != 0) {
            report.mended.push_back({.fault = detail::name_of(fault), .count = counts.at(fault)});
        }
    }
    return report;
}

std::string Admin::daemon_version() {
    const shm::Reply reply = impl_->link.call(detail::make_request(shm::RequestKind::kStatus, {}));
    return "mempoold " + std::string(shm::text_of(reply.text)) + ", pid " +
           std::to_string(shm::payload::of<shm::payload::Status>(reply).pid);
}

}  // namespace mempool
