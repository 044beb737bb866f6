#include "siege/daemon_figures.hpp"

#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

namespace mempool_test {

namespace {

constexpr std::uint64_t kMoreDescriptors = 8;
constexpr std::uint64_t kMoreMappings = 24;
constexpr std::uint64_t kMoreKib = 8192;

std::uint64_t number_after(const std::string& line, const std::string& key) {
    return line.rfind(key, 0) == 0 ? std::stoull(line.substr(key.size())) : 0;
}

// An object that was removed or set aside is nobody's any more.
bool is_of_a_pool(const std::string& path) {
    return path.find("/dev/shm/mempool.") != std::string::npos &&
           path.find("(deleted)") == std::string::npos && path.find(".aside-") == std::string::npos;
}

// What the descriptors of `pid` lead to, but for those of pools.
std::vector<std::string> descriptors_of(pid_t pid) {
    std::vector<std::string> found;
    std::error_code ignored;
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
        std::string link = std::filesystem::read_symlink(entry.path(), ignored);
        if (!is_of_a_pool(link)) {
            found.push_back(std::move(link));
        }
    }
    return found;
}

}  // namespace

DaemonFigures figures_of(pid_t pid) {
    DaemonFigures figures;
    const std::string proc = "/proc/" + std::to_string(pid);
    std::string line;
    for (std::ifstream status(proc + "/status"); std::getline(status, line);) {
        figures.resident_kib += number_after(line, "VmRSS:");
        figures.anonymous_kib += number_after(line, "RssAnon:");
    }
    for (std::ifstream maps(proc + "/maps"); std::getline(maps, line);) {
        figures.mappings += is_of_a_pool(line) ? 0U : 1U;
    }
    figures.descriptors = descriptors_of(pid).size();
    return figures;
}

bool is_settled(const DaemonFigures& before, const DaemonFigures& now) {
    return now.descriptors <= before.descriptors + kMoreDescriptors &&
           now.mappings <= before.mappings + kMoreMappings &&
           now.anonymous_kib <= before.anonymous_kib + kMoreKib;
}

std::string list_descriptors(pid_t pid) {
    std::map<std::string, int> counts;
    for (const std::string& link : descriptors_of(pid)) {
        ++counts[link.substr(0, link.find(":["))];  // socket:[4711] and its like have no names
    }
    std::string text;
    for (const auto& [link, count] : counts) {
        text += "  " + std::to_string(count) + " " + link + "\n";
    }
    return text;
}

std::string describe(const DaemonFigures& figures) {
    return std::to_string(figures.descriptors) + " descriptors, " +
           std::to_string(figures.mappings) + " mappings, " +
           std::to_string(figures.anonymous_kib) + " KiB of its own";
}

}  // namespace mempool_test
