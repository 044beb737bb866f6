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

}  // namespace

Client::Client(std::unique_ptr<detail::ClientImpl> impl) noexcept : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Client Client::attach(std::string_view pool, const AttachOptions& options) {
    return Client(detail::ClientImpl::attach(pool, options));
}

// flatten: the fast paths in one piece, without a call.
[[gnu::flatten]] Slot Client::get() noexcept { return impl_->get(nullptr); }

[[gnu::flatten]] Slot Client::get(std::error_code& error) noexcept {
    error.clear();
    return impl_->get(&error);
}

Slot Client::get_for(std::chrono::nanoseconds timeout) noexcept {
    return impl_->get_for(timeout, nullptr);
}

Slot Client::get_for(std::chrono::nanoseconds timeout, std::error_code& error) noexcept {
    error.clear();
    return impl_->get_for(timeout, &error);
}

std::size_t Client::get_bulk(std::span<Slot> slots) noexcept { return impl_->get_bulk(slots); }

// Not static, though any client would do: a Slot knows its own.
// NOLINTBEGIN(readability-convert-member-functions-to-static)

// A moved-in Slot is emptied here, not merely taken over: the caller's object must not return the
// slot again.
[[gnu::flatten]] std::error_code Client::put(Slot&& slot) noexcept {
    return code_of(detail::ClientImpl::put(slot));  // NOLINT(*-rvalue-reference-param-not-moved)
}

std::size_t Client::put_bulk(std::span<Slot> slots) noexcept {
    return detail::ClientImpl::put_bulk(slots);
}

// NOLINTEND(readability-convert-member-functions-to-static)

std::error_code Client::put(Handle handle) noexcept { return code_of(impl_->put_shared(handle)); }

Slot Client::adopt(Handle handle) noexcept { return impl_->adopt(handle, nullptr); }

Slot Client::adopt(Handle handle, std::error_code& error) noexcept {
    error.clear();
    return impl_->adopt(handle, &error);
}

const std::string& Client::pool() const noexcept { return impl_->pool_name(); }
std::size_t Client::slot_size() const noexcept { return impl_->slot_size(); }
std::byte* Client::base() const noexcept { return impl_->base(); }
std::uint32_t Client::id() const noexcept { return raw(impl_->id()); }

std::uint64_t Slot::offset() const noexcept {
    return data_ == nullptr ? 0 : static_cast<std::uint64_t>(data_ - client_->base());
}

Handle Slot::detach() noexcept {
    const Handle handle = release();
    return handle && client_->detach(handle) == detail::kNone ? handle : Handle{};
}

void Slot::set_tag(std::uint32_t tag) noexcept {
    if (data_ != nullptr) {
        flags_ |= detail::kTagged;
        client_->set_tag(Handle(index_, static_cast<std::uint32_t>(word_ >> 32U)), tag);
    }
}

[[gnu::flatten]] void detail::drop_slot(ClientImpl* client, std::uint32_t index, std::uint64_t word,
                                        std::uint32_t flags) noexcept {
    client->put({shm::SlotIndex{index}, shm::SlotWord{word}}, flags);
}

}  // namespace mempool
