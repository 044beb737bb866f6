#include "daemon/config/command_line.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <sstream>
#include <system_error>

#include "daemon/config/units.hpp"

namespace mempoold {

namespace {

namespace po = boost::program_options;

po::options_description make_description() {
    po::options_description description("Options");
    const auto text = [] { return po::value<std::string>(); };
    description.add_options()                                                             //
        ("pool", po::value<std::vector<std::string>>()->value_name("SPEC")->composing(),  //
         "serve pool NAME:SLOT_SIZExSLOTS[,key=value...] instead of the configured ones; "
         "repeatable")  //
        ("socket", text()->value_name("PATH"),
         "control socket; PATH.d beside it is the runtime directory (default: mempoold.sock in "
         "$RUNTIME_DIRECTORY, in /run/mempoold for root, else in $XDG_RUNTIME_DIR/mempoold)")  //
        ("config", text()->value_name("FILE"),
         "configuration (default: /etc/mempoold/mempoold.conf if it is there and no --pool is "
         "given); pools.d/*.conf beside it hold one pool each")  //
        ("admin-group", text()->value_name("GROUP"),
         "its members may change pools, as root and the daemon's own user may")                //
        ("log-level", text()->value_name("LEVEL"), "debug, info (default), warning or error")  //
        ("remove-on-exit", text()->implicit_value("yes")->value_name("yes|no"),
         "remove the pools at a clean stop (default: no)")  //
        ("max-connections-per-user", text()->value_name("N"),
         "connections of one user at once; root and the daemon's own user have no such limit "
         "(default: a quarter of all)")  //
        ("check-config",
         "print the configuration that would be used, and exit; 2 if it has an error")  //
        ("help", "print this, and exit")("version", "print the version, and exit");
    return description;
}

// `--log_level=x` and `--log-level=x` mean the same: keys in files have underscores.
std::string normalized(std::string argument) {
    if (argument.rfind("--", 0) == 0) {
        const auto end = argument.begin() +
                         static_cast<std::ptrdiff_t>(std::min(argument.find('='), argument.size()));
        std::replace(argument.begin() + 2, end, '_', '-');
    }
    return argument;
}

std::optional<std::string> optional_text(const po::variables_map& values, const char* name) {
    if (values.count(name) == 0) {
        return std::nullopt;
    }
    return values[name].as<std::string>();
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
    std::vector<std::string> given(arguments.size());
    std::transform(arguments.begin(), arguments.end(), given.begin(), normalized);
    po::variables_map values;
    try {
        const po::options_description description = make_description();
        // No guessing: a prefix that works today may mean two flags tomorrow.
        const auto style =
            po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
        po::store(po::command_line_parser(given)
                      .options(description)
                      .positional(po::positional_options_description())
                      .style(style)
                      .run(),
                  values);
    } catch (const po::error& e) {
        throw ConfigError(std::string(e.what()) + "; see mempoold --help");
    }
    CommandLine line;
    std::error_code gone;
    line.directory = std::filesystem::current_path(gone);
    line.config = optional_text(values, "config");
    line.socket = optional_text(values, "socket");
    line.admin_group = optional_text(values, "admin-group");
    line.log_level = optional_text(values, "log-level");
    line.remove_on_exit = optional_text(values, "remove-on-exit");
    line.max_connections_per_user = optional_text(values, "max-connections-per-user");
    if (values.count("pool") != 0) {
        line.pools = values["pool"].as<std::vector<std::string>>();
    }
    line.check_config = values.count("check-config") != 0;
    line.help = values.count("help") != 0;
    line.version = values.count("version") != 0;
    return line;
}

std::string help_text() {
    std::ostringstream text;
    text
        << "Usage: mempoold [OPTION]...\n"
           "Owns pools of fixed-size slots in shared memory and serves them to clients.\n\n"
        << make_description()
        << "\nSizes take K, M, G (powers of 1000) and KiB, MiB, GiB (powers of 1024). Keys of a "
           "pool:\n"
           "max_slots, grow_factor, grow_slots, low_watermark, erase_on_put, cache_bytes, "
           "max_clients,\n"
           "max_clients_per_user, quota, detached_ttl, backing (shm or memfd), owner, group, mode, "
           "allow_users, allow_groups\n"
           "(lists separated by '+').\n"
           "Example: mempoold --pool frames:64KiBx1024,max_slots=8192,grow_factor=2\n";
    return text.str();
}

}  // namespace mempoold
