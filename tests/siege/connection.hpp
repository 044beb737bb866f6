// The control socket spoken by hand, rightly and wrongly, and with little patience.
//
// Used by attackers, who must not hang where the daemon does, and by the siege to ask whether the
// daemon answers. Throws nothing: what can't be done is false or empty.
#pragma once

#include <chrono>
#include <cstdint>
#include <mempool/shm/wire.hpp>
#include <mempool/shm/words/unique_fd.hpp>
#include <optional>
#include <span>
#include <string>

namespace mempool_test {

class Attacker;

using mempool::shm::RequestKind;
using mempool::shm::UniqueFd;

mempool::shm::Request request_of(RequestKind kind, const std::string& pool = {});

/// One connection; its socket does not block.
class Connection {
public:
    /// Waits up to `patience` for a place in the backlog; check open() afterwards.
    explicit Connection(const std::string& socket_path,
                        std::chrono::milliseconds patience = std::chrono::milliseconds{500});

    [[nodiscard]] bool open() const noexcept { return static_cast<bool>(socket_); }
    [[nodiscard]] int fd() const noexcept { return socket_.get(); }
    [[nodiscard]] UniqueFd release() noexcept { return std::move(socket_); }

    bool send(const mempool::shm::Request& request);
    bool send_bytes(const void* bytes, std::size_t count);
    /// `fds` come along. 0 or errno.
    int send_with(const mempool::shm::Request& request, std::span<const int> fds);
    /// The next reply, and the descriptor that came with it.
    std::optional<mempool::shm::Reply> receive(
        UniqueFd* passed = nullptr,
        std::chrono::milliseconds patience = std::chrono::milliseconds{500});
    std::optional<mempool::shm::Reply> ask(
        const mempool::shm::Request& request, UniqueFd* passed = nullptr,
        std::chrono::milliseconds patience = std::chrono::milliseconds{500});

    /// As ask(), for what must be refused: whether there was any answer; a breach of `a` if it was
    /// granted.
    bool ask_in_vain(Attacker& a, const mempool::shm::Request& request);

private:
    UniqueFd socket_;
};

}  // namespace mempool_test
