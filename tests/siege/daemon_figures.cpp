#include "siege/daemon_figures.hpp"

#include <filesystem>
#include <fstream>
#include <system_error>

namespace mempool_test {

namespace {

constexpr std::uint64_t kMoreDescriptors = 8;
constexpr std::uint64_t kMoreMappings = 24;
constexpr std::uint64_t kMoreKib = 8192;

std::uint64_t number_after(const std::string& line, const std::string& key) {
    return line.rfind(key, 0) == 0 ? std::stoull(line.substr(key.size())) : 0;
}

}  // namespace

DaemonFigures figures_of(pid_t pid, const std::string& growing_pool) {
    DaemonFigures figures;
    const std::string proc = "/proc/" + std::to_string(pid);
    const auto counts = [&growing_pool](const std::string& line) {
        return line.find("/mempool." + growing_pool) == std::string::npos ? 1U : 0U;
    };
    std::string line;
    for (std::ifstream status(proc + "/status"); std::getline(status, line);) {
        figures.resident_kib += number_after(line, "VmRSS:");
        figures.anonymous_kib += number_after(line, "RssAnon:");
    }
    for (std::ifstream maps(proc + "/maps"); std::getline(maps, line);) {
        figures.mappings += counts(line);
    }
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd", ignored)) {
        figures.descriptors += counts(std::filesystem::read_symlink(entry.path(), ignored));
    }
    return figures;
}

bool is_settled(const DaemonFigures& before, const DaemonFigures& now) {
    return now.descriptors <= before.descriptors + kMoreDescriptors &&
           now.mappings <= before.mappings + kMoreMappings &&
           now.anonymous_kib <= before.anonymous_kib + kMoreKib;
}

std::string describe(const DaemonFigures& figures) {
    return std::to_string(figures.descriptors) + " descriptors, " +
           std::to_string(figures.mappings) + " mappings, " +
           std::to_string(figures.anonymous_kib) + " KiB of its own";
}

}  // namespace mempool_test
