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

/// Where to look after that: nobody who does not answer is asked twice.
[[nodiscard]] mempool::LookAt look_at(const DaemonAnswer& daemon);

/// The daemon, for an action that may take its time. One that hangs is told from one that works: it
/// does not even say who it is within a second. Throws mempool::Error.
[[nodiscard]] mempool::Admin connect_to_daemon(const mempool::AttachOptions& options);

/// Whether the daemon at the socket answers for the pool that `inspector` looks at. If not, a note
/// on standard error says so, and what is trusted instead; in JSON the answer itself says it.
bool note_whether_served(const Invocation& invocation, const mempool::Inspector& inspector);

/// Prints `text` to standard error as a note of mempoolctl's.
void print_note(std::string_view text);

}  // namespace mempoolctl
