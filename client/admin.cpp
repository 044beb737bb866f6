#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "connection.hpp"
#include "fault_names.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/names.hpp"

namespace mempool {
namespace {

/// What a kReclaim carries to leave detached slots alone.
constexpr std::uint64_t kNoAge = ~std::uint64_t{0};

shm::Request request_about(shm::RequestKind kind, std::string_view pool, std::uint64_t value) {
    if (const std::string fault = shm::check_pool_name(pool); !fault.empty()) {
        throw Error(EINVAL, std::generic_category(), fault);
    }
    return detail::make_request(kind, pool, value);
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
    return impl_->link.call_patiently(request_about(shm::RequestKind::kGrow, pool, slots))
        .values[0];
}

ReclaimReport Admin::reclaim(std::string_view pool,
                             std::optional<std::chrono::seconds> detached_age) {
    const std::uint64_t age =
        detached_age ? static_cast<std::uint64_t>(std::max<std::int64_t>(detached_age->count(), 0))
                     : kNoAge;
    const shm::Reply reply =
        impl_->link.call_patiently(request_about(shm::RequestKind::kReclaim, pool, age));
    return {.clients = reply.values[1], .slots = reply.values[0], .detached = reply.values[2]};
}

RepairReport Admin::repair(std::string_view pool) {
    shm::Reply reply;
    try {
        reply = impl_->link.call(request_about(shm::RequestKind::kRepair, pool, 0));
    } catch (const Error& e) {
        if (e.code() != std::errc::connection_reset) {
            throw;
        }
        // It has ended meanwhile, or doesn't know the request. If it answers another, the latter.
        throw Error(EOPNOTSUPP, std::generic_category(),
                    daemon_version() + " does not know how to repair a pool: use a newer release");
    }
    RepairReport report;
    report.clients = reply.values[1];
    std::array<std::uint64_t, sizeof(reply.text) / sizeof(std::uint64_t)> counts{};
    std::memcpy(counts.data(), reply.text, sizeof(reply.text));
    const std::size_t kinds = std::min<std::uint64_t>(reply.values[2], counts.size());
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
           std::to_string(reply.values[0]);
}

}  // namespace mempool
