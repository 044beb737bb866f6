#include "runner/machine.hpp"

#include <sched.h>
#include <sys/utsname.h>

#include <array>
#include <ctime>
#include <fstream>

namespace bench {

namespace {

std::string cpu_model() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) {
            return line.substr(line.find(": ") + 2);
        }
    }
    return "unknown";
}

std::string now() {
    const std::time_t time = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    std::array<char, 64> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts);
    return text.data();
}

/// Processes that ran or wanted to in the last minute, on average: with more than a few beside the
/// measured ones, two processes seldom run at once.
std::string load() {
    std::ifstream file("/proc/loadavg");
    std::string average;
    file >> average;
    return average;
}

}  // namespace

int usable_cores() {
    cpu_set_t set;
    return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::map<std::string, std::string> describe_machine() {
    utsname system{};
    ::uname(&system);
    return {{"cpu", cpu_model() + ", " + std::to_string(usable_cores()) + " cores usable"},
            {"kernel", std::string(system.sysname) + " " + system.release + " " + system.machine},
            {"compiler", std::string(BENCH_COMPILER) + ", " + BENCH_BUILD_TYPE},
            {"date", now()},
            {"load before", load()}};
}

}  // namespace bench
