// What can go wrong with a slot, as values. Faults at attach are exceptions instead.
#pragma once

#include <string>
#include <system_error>

#include "mempool/export.hpp"

namespace mempool {

/// Why an operation gave no slot, or refused one. 0 is success.
enum class Errc {
    kExhausted = 1,  ///< no slot is free, now
    kTimedOut,       ///< no slot became free in the time given
    kStale,          ///< the slot was returned or adopted since, or its handle was never given out
    kNoSuchSlot,     ///< the handle names no slot of this pool
    kEmptySlot,      ///< the Slot object holds nothing
    kForked,         ///< this process was forked from the one that attached: attach again
    kSegmentUnavailable,  ///< the slot's segment can't be mapped: the daemon is down and its
                          ///< object can't be opened by name
    kPoolDamaged,         ///< the pool's shared records were overwritten: see mempoolctl audit
    kClosed,              ///< close() was called for this client
    kOverQuota,           ///< this client holds as many slots as the pool's quota allows
    kEnded,               ///< an operator, or the daemon, ended this attachment: attach again
};

/// Category "mempool"; its messages say what to do. Thread-safe.
[[nodiscard]] MEMPOOL_EXPORT const std::error_category& error_category() noexcept;

[[nodiscard]] inline std::error_code make_error_code(Errc e) noexcept {
    return {static_cast<int>(e), error_category()};
}

/// Thrown by Client::attach(), Inspector and Admin. code() is the errno in std::generic_category()
/// (ENOENT no such pool or daemon, ECONNREFUSED daemon gone, EACCES not allowed, EUSERS too many
/// clients, EPROTO not a pool, EINVAL bad name, ETIMEDOUT no answer, …); what() says what to do.
class MEMPOOL_EXPORT Error : public std::system_error {
public:
    using std::system_error::system_error;
    Error(const Error&) = default;
    Error& operator=(const Error&) = default;
    ~Error() override;

    /// What what() says before the text of code(), which follows there after a colon.
    [[nodiscard]] std::string reason() const;
};

}  // namespace mempool

template <>
struct std::is_error_code_enum<mempool::Errc> : std::true_type {};
