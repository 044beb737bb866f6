#include "command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <iterator>
#include <optional>

#include "text.hpp"

namespace mempoolctl {
namespace {

namespace po = boost::program_options;

const Command* find_command(std::string_view name) {
    const auto* const found = std::find_if(kCommands.begin(), kCommands.end(),
                                           [&](const Command* c) { return c->name == name; });
    if (found == kCommands.end()) {
        throw UsageError(
            fmt::format("unknown command '{}'; 'mempoolctl help' lists them", printable(name)));
    }
    return *found;
}

// Takes the first word that is neither an option nor the value of one before it.
std::optional<std::string> take_command_name(std::vector<std::string>& words) {
    for (auto word = words.begin(); word != words.end(); ++word) {
        if (*word == "--socket") {
            if (++word == words.end()) {
                break;
            }
        } else if (word->empty() || word->front() != '-') {
            std::string name = *word;
            words.erase(word);
            return name;
        }
    }
    return std::nullopt;
}

po::variables_map parse_options(const std::vector<std::string>& words, const Command* command) {
    po::options_description known = common_options();
    if (command != nullptr && command->add_options != nullptr) {
        command->add_options(known);
    }
    known.add_options()("argument", po::value<std::vector<std::string>>());
    po::positional_options_description positional;
    positional.add("argument", -1);

    // No guessing: what an abbreviation means would change with every new option.
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::variables_map options;
    try {
        po::store(
            po::command_line_parser(words).options(known).positional(positional).style(style).run(),
            options);
        po::notify(options);
    } catch (const po::error& error) {
        throw UsageError(error.what());
    }
    return options;
}

void check_argument_count(const Command& command, std::size_t count) {
    if (count < command.least_arguments) {
        throw UsageError(fmt::format("{} needs {}", command.name, command.arguments));
    }
    if (count > command.most_arguments) {
        throw UsageError(fmt::format("too many arguments for {}: it takes {}", command.name,
                                     command.arguments.empty() ? "none" : command.arguments));
    }
}

}  // namespace

po::options_description common_options() {
    po::options_description options("Options of every command");
    options.add_options()                                                             //
        ("socket", po::value<std::string>()->value_name("PATH"),                      //
         "the daemon's control socket; else $MEMPOOL_SOCKET, else the usual places")  //
        ("json", po::bool_switch(), "answer as JSON, with sizes in bytes")            //
        ("no-color", po::bool_switch(), "no colours; as is when NO_COLOR is set")     //
        ("help,h", po::bool_switch(), "explain, and do nothing else")                 //
        ("version,V", po::bool_switch(), "say which version this is, and do nothing else");
    return options;
}

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
    CommandLine line;
    std::vector<std::string> words = arguments;
    const std::optional<std::string> name = take_command_name(words);
    const bool explain = name == "help";
    if (name && !explain) {
        line.command = find_command(*name);
    }
    Invocation& invocation = line.invocation;
    invocation.options = parse_options(words, line.command);
    const po::variables_map& options = invocation.options;
    if (options.count("argument") != 0) {
        invocation.arguments = options["argument"].as<std::vector<std::string>>();
    }
    if (options.count("socket") != 0) {
        invocation.attach.socket = options["socket"].as<std::string>();
    }
    invocation.json = options["json"].as<bool>();
    line.no_colour = options["no-color"].as<bool>();
    line.version = options["version"].as<bool>();
    line.help = options["help"].as<bool>() || explain;
    if (explain && !invocation.arguments.empty()) {
        line.command = find_command(invocation.arguments.front());
    }
    if (line.help || line.version) {
        return line;
    }
    if (line.command == nullptr) {
        throw UsageError("which command? 'mempoolctl help' lists them");
    }
    check_argument_count(*line.command, invocation.arguments.size());
    return line;
}

}  // namespace mempoolctl
