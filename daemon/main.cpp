// mempoold: parses, builds, runs.
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/inherited.hpp"
#include "daemon/base/log.hpp"
#include "daemon/config/command_line.hpp"
#include "daemon/config/config.hpp"
#include "daemon/daemon.hpp"

namespace {

constexpr int kWrongConfig = 2;

int serve(mempoold::CommandLine line, mempoold::Config config) {
    const mempoold::LogThread log(config.log_level);
    try {
        mempoold::Daemon(std::move(line), std::move(config)).run();
        return EXIT_SUCCESS;
    } catch (const std::exception& e) {
        mempoold::log_error("{}", e.what());
        return EXIT_FAILURE;
    }
}

}  // namespace

int main(int argc, char** argv) {
    mempoold::fill_standard_descriptors();
    mempoold::CommandLine line;
    mempoold::Config config;
    try {
        mempoold::settle_process();
        line = mempoold::parse_command_line(std::vector<std::string>(argv + 1, argv + argc));
        if (line.help) {
            std::cout << mempoold::help_text();
            return EXIT_SUCCESS;
        }
        if (line.version) {
            std::cout << "mempoold " << MEMPOOLD_VERSION << '\n';
            return EXIT_SUCCESS;
        }
        config = mempoold::load_config(line);
    } catch (const std::exception& e) {
        mempoold::log_error("{}", e.what());
        return kWrongConfig;
    }
    if (line.check_config) {
        std::cout << mempoold::format_config(config);
        for (const std::string& fault : config.faults) {
            mempoold::log_error("{}", fault);
        }
        return config.faults.empty() ? EXIT_SUCCESS : kWrongConfig;
    }
    try {
        return serve(std::move(line), std::move(config));
    } catch (const std::exception& e) {
        mempoold::log_error("{}", e.what());
        return EXIT_FAILURE;
    }
}
