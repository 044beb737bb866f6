// The secret by which a client proves that an attachment is its own.
//
// Made at attach, sent to the client alone, and shown again at resume and goodbye. What stands in
// shared memory, where other clients can read it, is a hash from which the token cannot be found.
#pragma once

#include <cstdint>

namespace mempoold {

/// A random token, never 0. Throws std::system_error if the kernel has no random bytes.
std::uint64_t make_token();

/// The hash of `token`: 64 bits of BLAKE2b (RFC 7693), never 0.
std::uint64_t hash_of_token(std::uint64_t token) noexcept;

}  // namespace mempoold
