// The kinds of acts of attackers, each a small function with a name.
//
// Strangers have no right on any pool. A member may attach to the open pool, and has no right on
// the other. An act returns false if it could not be done at all (the kernel forbids it here, the
// open pool is just being made again); that the daemon refuses what was asked is what it is for.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mempool_test {

class Attacker;

enum class Who { kStranger, kMember };

struct Act {
    const char* name;
    Who who;
    bool (*run)(Attacker&);
    /// The kernel may forbid it everywhere here, so all may be in vain.
    bool may_be_forbidden = false;
};

/// Whether `kind` is the act's name, or the part of it that stands in front of the colon.
bool is_kind(const Act& act, const std::string& kind);

/// All, in the order of the table that is printed.
const std::vector<Act>& all_acts();

std::span<const Act> name_acts();        ///< files in /dev/shm and about the socket
std::span<const Act> socket_acts();      ///< connections and messages
std::span<const Act> descriptor_acts();  ///< what is passed along with messages
std::span<const Act> process_acts();     ///< who asks: namespaces, exec, fork, limits, death
std::span<const Act> member_acts();      ///< with the right on the open pool

}  // namespace mempool_test
