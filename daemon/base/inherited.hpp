// What a process inherits from whoever started it, put into the state that the daemon needs.
//
// Called by main(), before anything else and once. Changes nothing that an operator sets on purpose
// and that does no harm (priority, CPU affinity, the hard limits).
#pragma once

namespace mempoold {

/// Opens /dev/null under each of the numbers 0 to 2 that is closed. Else a socket or a pool would
/// get that number, and the next log line would be written into it.
void fill_standard_descriptors() noexcept;

/// Unblocks all signals; handles those by default that were ignored; ignores SIGPIPE and SIGXFSZ,
/// so that the call fails instead; stops timers that survive exec and drops their pending signals;
/// sets the umask so that every mode the daemon asks for is what it gets, except for writing by
/// others; raises the soft limits of descriptors, file size and processor time to the hard ones.
/// Throws std::runtime_error if the program is set-uid or set-gid: its caller would choose its
/// environment and its files.
void settle_process();

}  // namespace mempoold
