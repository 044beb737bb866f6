// Which pools there are, and whether a daemon serves them.
//
// Called by the commands that only look: they go on without a daemon, and say so.
#pragma once

#include <mempool/client.hpp>
#include <mempool/inspect.hpp>
#include <string>
#include <string_view>

#include "command.hpp"

namespace mempoolctl {

/// Who answers at the control socket.
struct DaemonAnswer {
    std::string version;  ///< "mempoold VERSION, pid N"; empty if nobody answers
    std::string problem;  ///< then: why, and what to do
};
[[nodiscard]] DaemonAnswer ask_daemon(const mempool::AttachOptions& options);

/// Whether the daemon at the socket serves `pool`. If not, a note on standard error says that the
/// figures come from shared memory alone; in JSON the answer itself says it.
bool note_whether_served(const Invocation& invocation, std::string_view pool);

/// Prints `text` to standard error as a note of mempoolctl's.
void print_note(std::string_view text);

}  // namespace mempoolctl
