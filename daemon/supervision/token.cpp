#include "daemon/supervision/token.hpp"

#include <sodium.h>
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "daemon/base/fail.hpp"

namespace mempoold {

std::uint64_t make_token() {
    std::uint64_t token = 0;
    while (token == 0) {
        if (::getrandom(&token, sizeof(token), 0) != static_cast<ssize_t>(sizeof(token)) &&
            errno != EINTR) {
            fail(errno, "getrandom");
        }
    }
    return token;
}

std::uint64_t hash_of_token(std::uint64_t token) noexcept {
    std::array<unsigned char, sizeof(token)> bytes{};
    std::memcpy(bytes.data(), &token, sizeof(token));
    std::array<unsigned char, crypto_generichash_BYTES_MIN> digest{};
    ::crypto_generichash(digest.data(), digest.size(), bytes.data(), bytes.size(), nullptr, 0);
    std::uint64_t hash = 0;
    std::memcpy(&hash, digest.data(), sizeof(hash));
    return hash != 0 ? hash : 1;
}

}  // namespace mempoold
