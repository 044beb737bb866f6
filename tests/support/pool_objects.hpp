// Names for the pools of a test, and removal of what they leave in /dev/shm.
//
// Used by every test that makes a pool. /dev/shm is shared by all tests that run at once, and by
// other daemons of the machine, so a name holds the process id, and $MEMPOOL_TEST_TAG, by which
// dev_shm.sh knows what the tests of a build left. Never touches an object of a pool that it was
// not asked about.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mempool_test {

/// A pool name of this process alone: `stem`, the tag, the process id and a number. Whatever stands
/// in /dev/shm under it is removed when this process exits (not in a forked child, not at a
/// SIGKILL).
std::string unique_pool(const std::string& stem);

/// Names in /dev/shm of all objects of `pool`, segments and what was set aside: each once, so
/// without the plain name where it is the first segment's second one.
std::vector<std::string> objects_of(const std::string& pool);

/// Name in /dev/shm, with its random part, of segment `number` of `pool`; empty if there is none.
std::string object_of(const std::string& pool, std::uint32_t number);

/// Makes `pool`, which no daemon serves, one of the former layout; `runtime` is its daemon's
/// runtime directory, if it has one, whose index then says nothing of layouts, as that release's
/// did.
void make_former(const std::string& pool, const std::string& runtime = "");
/// The same of segment `number` of a pool without names.
void make_former(int fd, std::uint32_t number);

/// Removes all that has a name of `pool`.
void remove_pool(const std::string& pool);

}  // namespace mempool_test
