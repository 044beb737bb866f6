// The public faces of ClientImpl.
#include "mempool/client.hpp"

#include <utility>

#include "client_impl.hpp"
#include "mempool/slot.hpp"

namespace mempool {
namespace {

std::error_code code_of(Errc why) noexcept {
    return why == detail::kNone ? std::error_code{} : make_error_code(why);
}

/// Now plus `timeout`, at most the clock's end.
shm::MonotonicClock::time_point deadline_after(std::chrono::nanoseconds timeout) noexcept {
    const auto now = shm::MonotonicClock::now();
    const auto longest = shm::MonotonicClock::time_point::max() - now;
    return timeout > longest ? shm::MonotonicClock::time_point::max() : now + timeout;
}

}  // namespace

Client::Client(Client&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
Client& Client::operator=(Client&& other) noexcept {
    if (this != &other) {
        const Client former = std::move(*this);
        core_ = std::exchange(other.core_, nullptr);
    }
    return *this;
}
// Leaves core_ as it is: a thread that calls a static Client after this finds the closed core.
Client::~Client() {
    if (core_ != nullptr) {
        impl().leave();
    }
}

Client Client::attach(std::string_view pool, const AttachOptions& options) {
    return Client(detail::ClientImpl::attach(pool, options).release());
}

detail::ClientImpl& Client::impl() const noexcept {
    return static_cast<detail::ClientImpl&>(*core_);
}

Slot Client::get_for(std::chrono::nanoseconds timeout) noexcept {
    return impl().get_until(deadline_after(timeout), nullptr);
}

Slot Client::get_for(std::chrono::nanoseconds timeout, std::error_code& error) noexcept {
    return get_until(deadline_after(timeout), error);
}

Slot Client::get_until(std::chrono::steady_clock::time_point deadline) noexcept {
    return impl().get_until(deadline, nullptr);
}

Slot Client::get_until(std::chrono::steady_clock::time_point deadline,
                       std::error_code& error) noexcept {
    error.clear();
    return impl().get_until(deadline, &error);
}

std::size_t Client::get_bulk(std::span<Slot> slots) noexcept {
    return impl().get_bulk(slots, nullptr);
}

std::size_t Client::get_bulk(std::span<Slot> slots, std::error_code& error) noexcept {
    error.clear();
    return impl().get_bulk(slots, &error);
}

// Not static, though any client would do: a Slot knows its own.
// NOLINTBEGIN(readability-convert-member-functions-to-static)

std::size_t Client::put_bulk(std::span<Slot> slots) noexcept {
    return detail::ClientImpl::put_bulk(slots);
}

// NOLINTEND(readability-convert-member-functions-to-static)

std::error_code Client::put(Handle handle) noexcept { return code_of(impl().put_shared(handle)); }

std::size_t Client::release_bulk(std::span<Slot> slots, std::span<Handle> handles) noexcept {
    return impl().release_bulk(slots, handles);
}

std::size_t Client::put_bulk(std::span<const Handle> handles) noexcept {
    return impl().put_bulk(handles);
}

void Client::close() noexcept { impl().close(); }

Slot Client::adopt(Handle handle) noexcept { return impl().adopt(handle, nullptr); }

Slot Client::adopt(Handle handle, std::error_code& error) noexcept {
    error.clear();
    return impl().adopt(handle, &error);
}

const std::string& Client::pool() const noexcept { return impl().pool_name(); }
std::size_t Client::slot_size() const noexcept { return impl().slot_size; }
std::byte* Client::base() const noexcept { return impl().base(); }
std::uint32_t Client::id() const noexcept { return raw(impl().id()); }

std::uint64_t Slot::offset() const noexcept {
    return owner_ ? static_cast<std::uint64_t>(
                        data() - static_cast<detail::ClientImpl*>(owner_.core())->base())
                  : 0;
}

Handle Slot::detach() noexcept {
    if (!owner_) {
        return {};
    }
    const Errc why = static_cast<detail::ClientImpl*>(owner_.core())->detach(name_);
    if (why != Errc::kPoolDamaged) {  // then nothing has changed: this object still holds it
        owner_ = detail::Owner();
    }
    return why == detail::kNone ? name_ : Handle{};
}

void Slot::set_tag(std::uint32_t tag) noexcept {
    if (owner_) {
        owner_.add(detail::kTagged);
        static_cast<detail::ClientImpl*>(owner_.core())->set_tag(name_, tag);
    }
}

detail::Got detail::get_slowly(ClientCore* core, std::error_code* error) noexcept {
    return static_cast<ClientImpl*>(core)->get_slowly(error);
}

std::error_code detail::put_slowly(Owner owner, Handle name) noexcept {
    return code_of(static_cast<ClientImpl*>(owner.core())->put_slowly(name, owner.flags()));
}

bool detail::show_slowly(Owner owner, Handle name) noexcept {
    return static_cast<ClientImpl*>(owner.core())->show(name);
}

}  // namespace mempool
