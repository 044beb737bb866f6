// Keeps the daemon alive when somebody truncates a pool's file: the SIGBUS handler.
//
// A fault inside a guarded range gets zero pages put under it, so that the work in progress ends
// somehow; then the event loop finds the guard marked and gives that pool up. A fault anywhere else
// ends the process as without the handler. Guards are made and destroyed on the loop; the faults
// may be the loop's and the worker's.
#pragma once

#include <cstddef>

namespace mempoold {

/// Installs the handler, once. Throws std::system_error.
void install_fault_handler();

/// Guards `bytes` (whole pages) from `base` on as long as it lives.
class FaultGuard {
public:
    /// Throws std::runtime_error when too many ranges (1024) are guarded already.
    FaultGuard(const void* base, std::size_t bytes);
    FaultGuard(const FaultGuard&) = delete;
    FaultGuard& operator=(const FaultGuard&) = delete;
    ~FaultGuard();

    /// Whether an access in the range has faulted so far.
    [[nodiscard]] bool faulted() const noexcept;

private:
    std::size_t slot_ = 0;
};

}  // namespace mempoold
