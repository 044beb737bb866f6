#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "connection.hpp"
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
    return impl_->link.call(request_about(shm::RequestKind::kGrow, pool, slots)).values[0];
}

ReclaimReport Admin::reclaim(std::string_view pool,
                             std::optional<std::chrono::seconds> detached_age) {
    const std::uint64_t age =
        detached_age ? static_cast<std::uint64_t>(std::max<std::int64_t>(detached_age->count(), 0))
                     : kNoAge;
    const shm::Reply reply = impl_->link.call(request_about(shm::RequestKind::kReclaim, pool, age));
    return {.clients = reply.values[1], .slots = reply.values[0], .detached = reply.values[2]};
}

std::string Admin::daemon_version() {
    const shm::Reply reply = impl_->link.call(detail::make_request(shm::RequestKind::kStatus, {}));
    return "mempoold " + std::string(shm::text_of(reply.text)) + ", pid " +
           std::to_string(reply.values[0]);
}

}  // namespace mempool
