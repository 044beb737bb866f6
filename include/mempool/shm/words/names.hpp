// Names of pools and of the objects and sockets that belong to them.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mempool/shm/words/layout.hpp"

namespace mempool::shm {

/// Empty if `name` may name a pool (1..63 letters, digits, '_' or '-'); else what is wrong.
/// A dot is kept for segment numbers, so that no two pools can mean one object.
inline std::string check_pool_name(std::string_view name) {
    if (name.empty()) {
        return "a pool's name must not be empty";
    }
    if (name.size() >= kMaxPoolName) {
        return "a pool's name has at most " + std::to_string(kMaxPoolName - 1) +
               " characters, this one has " + std::to_string(name.size());
    }
    for (const char c : name) {
        const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!fine) {
            return "a pool's name consists of letters, digits, '_' and '-'; '" + std::string(name) +
                   "' does not";
        }
    }
    return {};
}

/// Name of segment `number`'s shared-memory object, as shm_open(3) wants it. `random` is
/// SegmentEntry::object: nobody can foresee such a name and put something else there. 0: the plain
/// name, a second one of segment 0, what memfds are labelled, and all that a former release gave.
inline std::string object_name(std::string_view pool, std::uint32_t number,
                               std::uint64_t random = 0) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string name = "/mempool.";
    name += pool;
    if (random != 0) {
        name += '.';
        for (int shift = 60; shift >= 0; shift -= 4) {
            name += kDigits[(random >> static_cast<unsigned>(shift)) & 15U];
        }
    } else if (number != 0) {
        name += '.';
        name += std::to_string(number);
    }
    return name;
}

/// Where a client looks for the daemon: $MEMPOOL_SOCKET, else the user's own daemon if there is
/// one, else the system's. In a set-uid program the system's always: its caller made the
/// environment.
inline std::string default_socket_path() {
    if (const char* given = ::secure_getenv("MEMPOOL_SOCKET"); given != nullptr && *given != '\0') {
        return given;
    }
    if (const char* runtime = ::secure_getenv("XDG_RUNTIME_DIR");
        runtime != nullptr && *runtime != '\0') {
        std::string own = std::string(runtime) + "/mempoold/mempoold.sock";
        if (::access(own.c_str(), F_OK) == 0) {
            return own;
        }
    }
    return "/run/mempoold/mempoold.sock";
}

}  // namespace mempool::shm
