// One subcommand of mempoolctl: how it is called, what it does, how it ends.
//
// Each subcommand's file defines one Command; command_line.cpp finds it by name, help.cpp describes
// it and main.cpp runs it. A command talks to pools through libmempool's public headers only,
// prints its answer to an Output, and throws UsageError, mempool::Error or std::exception when it
// can't.
#pragma once

#include <array>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/variables_map.hpp>
#include <cstddef>
#include <mempool/client.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mempoolctl {

class Output;

/// How mempoolctl ends; mempoolctl(1) documents these numbers.
enum class Exit : int {
    kOk = 0,
    kBadAnswer = 1,   ///< asked and answered, and the answer is bad
    kUsage = 2,       ///< the command line makes no sense
    kNotFound = 3,    ///< no such pool, or no daemon where one is needed
    kNotAllowed = 4,  ///< not permitted
    kFailure = 5,     ///< anything else
};

/// The command line makes no sense; what() says what is wrong with it.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A command line as a command sees it.
struct Invocation {
    mempool::AttachOptions attach;
    bool json = false;
    std::vector<std::string> arguments;  ///< as many as the command said it takes
    boost::program_options::variables_map options;
};

struct Command {
    std::string_view name;
    std::string_view arguments;  ///< as shown in help, e.g. "POOL SLOTS"
    std::string_view summary;    ///< one line
    std::string_view details;    ///< further lines of `help NAME`; may be empty
    std::size_t least_arguments;
    std::size_t most_arguments;
    void (*add_options)(boost::program_options::options_description&);  ///< nullptr: has none
    Exit (*run)(const Invocation&, Output&);
};

extern const Command kList;
extern const Command kStatus;
extern const Command kClients;
extern const Command kSegments;
extern const Command kSlots;
extern const Command kAudit;
extern const Command kGrow;
extern const Command kReclaim;

/// All commands, in the order in which help shows them.
inline constexpr std::array kCommands{&kList,  &kStatus, &kClients, &kSegments,
                                      &kSlots, &kAudit,  &kGrow,    &kReclaim};

}  // namespace mempoolctl
