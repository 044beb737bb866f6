#include "siege/options.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <iostream>
#include <random>

#include "siege/acts.hpp"

namespace mempool_test {

namespace {

namespace po = boost::program_options;

/// From here on a run is long enough for its times to mean something.
constexpr std::uint32_t kLongSeconds = 120;

bool known_kinds(const std::vector<std::string>& kinds) {
    return std::all_of(kinds.begin(), kinds.end(), [](const std::string& kind) {
        const auto& acts = all_acts();
        const bool known = std::any_of(acts.begin(), acts.end(),
                                       [&kind](const Act& act) { return is_kind(act, kind); });
        if (!known) {
            std::cerr << "mempool_siege: no kind of act is called '" << kind
                      << "': --list shows them\n";
        }
        return known;
    });
}

void list_kinds() {
    for (const Act& act : all_acts()) {
        std::cout << (act.who == Who::kMember ? "member    " : "stranger  ") << act.name << '\n';
    }
}

}  // namespace

std::optional<SiegeOptions> parse_siege_options(const std::vector<std::string>& arguments) {
    SiegeOptions o;
    po::options_description known(
        "mempool_siege: users without rights on a pool do their worst, and its clients must not "
        "notice");
    known.add_options()("help", "this text")("list", "the kinds of acts")(
        "seconds", po::value(&o.seconds)->default_value(o.seconds), "how long the siege lasts")(
        "strict", po::bool_switch(&o.strict),
        "fail for times and rates too, as from 120 seconds on")("daemon", po::value(&o.daemon),
                                                                "besiege this mempoold")(
        "only", po::value(&o.only),
        "this kind of act alone, or all kinds before its colon; may be repeated")(
        "without", po::value(&o.without), "all but this kind of act; may be repeated")(
        "seed", po::value(&o.seed)->default_value(o.seed), "of what happens; 0: by chance");
    try {
        po::variables_map given;
        po::store(po::command_line_parser(arguments).options(known).run(), given);
        po::notify(given);
        if (given.count("help") != 0) {
            std::cout << known;
            return std::nullopt;
        }
        if (given.count("list") != 0) {
            list_kinds();
            return std::nullopt;
        }
    } catch (const po::error& e) {
        std::cerr << "mempool_siege: " << e.what() << '\n' << known;
        return std::nullopt;
    }
    if (!known_kinds(o.only) || !known_kinds(o.without)) {
        return std::nullopt;
    }
    if (o.seed == 0) {
        o.seed = std::random_device{}();
    }
    o.strict = o.strict || o.seconds >= kLongSeconds;
    return o;
}

std::string command_of(const SiegeOptions& o) {
    std::string command = "mempool_siege --seconds " + std::to_string(o.seconds) + " --seed " +
                          std::to_string(o.seed) + (o.strict ? " --strict" : "");
    for (const std::string& kind : o.only) {
        command += " --only '" + kind + "'";
    }
    for (const std::string& kind : o.without) {
        command += " --without '" + kind + "'";
    }
    return command;
}

}  // namespace mempool_test
