// The daemon's one way to refuse with an errno.
//
// Thread-safe.
#pragma once

#include <string>
#include <system_error>

namespace mempoold {

/// Throws std::system_error: `what`, then the text of `error` (an errno).
[[noreturn]] inline void fail(int error, const std::string& what) {
    throw std::system_error(error, std::generic_category(), what);
}

}  // namespace mempoold
