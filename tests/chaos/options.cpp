#include "chaos/options.hpp"

#include <boost/program_options.hpp>
#include <iostream>
#include <random>

namespace mempool_test {

namespace po = boost::program_options;

std::optional<ChaosOptions> parse_chaos_options(const std::vector<std::string>& arguments) {
    ChaosOptions o;
    po::options_description known(
        "mempool_chaos: processes that use pools, stop, die and come back, while the daemon does "
        "too");
    known.add_options()("help", "this text")(
        "minutes", po::value(&o.minutes)->default_value(o.minutes), "run at least for so long")(
        "client-kills", po::value(&o.client_kills)->default_value(o.client_kills),
        "clients to SIGKILL")("daemon-kills",
                              po::value(&o.daemon_kills)->default_value(o.daemon_kills),
                              "daemons to SIGKILL")(
        "members", po::value(&o.members)->default_value(o.members), "clients at a time")(
        "seed", po::value(&o.seed)->default_value(o.seed), "of what happens; 0: by chance");
    try {
        po::variables_map given;
        po::store(po::command_line_parser(arguments).options(known).run(), given);
        po::notify(given);
        if (given.count("help") != 0) {
            std::cout << known;
            return std::nullopt;
        }
    } catch (const po::error& e) {
        std::cerr << "mempool_chaos: " << e.what() << '\n' << known;
        return std::nullopt;
    }
    if (o.seed == 0) {
        o.seed = std::random_device{}();
    }
    return o;
}

std::string command_of(const ChaosOptions& o) {
    return "mempool_chaos --minutes " + std::to_string(o.minutes) + " --client-kills " +
           std::to_string(o.client_kills) + " --daemon-kills " + std::to_string(o.daemon_kills) +
           " --members " + std::to_string(o.members) + " --seed " + std::to_string(o.seed);
}

}  // namespace mempool_test
