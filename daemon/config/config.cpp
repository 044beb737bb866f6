#include "daemon/config/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <system_error>

#include "daemon/config/accounts.hpp"
#include "daemon/config/config_file.hpp"

namespace mempoold {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostConnections = 1'000'000;
constexpr const char* kBuiltInPool = "default:4KiBx4096,max_slots=65536";

LogLevel parse_log_level(const std::string& text) {
    if (text == "debug") {
        return LogLevel::kDebug;
    }
    if (text == "info") {
        return LogLevel::kInfo;
    }
    if (text == "warning") {
        return LogLevel::kWarning;
    }
    if (text == "error") {
        return LogLevel::kError;
    }
    throw ConfigError(fmt::format("'{}' is not a log level: debug, info, warning or error", text));
}

const char* name_of(LogLevel level) {
    switch (level) {
        case LogLevel::kDebug:
            return "debug";
        case LogLevel::kInfo:
            return "info";
        case LogLevel::kWarning:
            return "warning";
        case LogLevel::kError:
            break;
    }
    return "error";
}

// Sets a key of the daemon itself; false if there is no such key.
bool set_key(Config& config, const std::string& key, const std::string& value) {
    if (key == "socket") {
        config.socket = value;
    } else if (key == "admin_group") {
        config.admin_group = value;
        config.admin_gid = value.empty() ? std::nullopt : std::optional(gid_of(value));
    } else if (key == "log_level") {
        config.log_level = parse_log_level(value);
    } else if (key == "remove_on_exit") {
        config.remove_on_exit = parse_switch(value);
    } else if (key == "max_connections_per_user") {
        config.max_connections_per_user =
            static_cast<std::uint32_t>(parse_number(value, 0, kMostConnections));
    } else {
        return false;
    }
    return true;
}

// Runs `step`, whose errors get the place and the key put before them.
template <typename Step>
auto located(const std::string& where, const std::string& key, Step&& step) {
    try {
        return step();
    } catch (const ConfigError& e) {
        throw ConfigError(where + ": " + (key.empty() ? "" : key + ": ") + e.what());
    }
}

void add_pool(Config& config, PoolConfig pool) {
    const auto other = std::find_if(config.pools.begin(), config.pools.end(),
                                    [&](const PoolConfig& p) { return p.name == pool.name; });
    if (other != config.pools.end()) {
        throw ConfigError(
            fmt::format("pool '{}' is there already, from {}", pool.name, other->source));
    }
    config.pools.push_back(std::move(pool));
}

void read_main_file(Config& config, const fs::path& file, bool with_pools) {
    std::vector<std::string> seen;
    for (const Setting& setting : read_settings(file)) {
        located(setting.where, setting.key, [&] {
            if (setting.key == "pool") {
                if (with_pools) {
                    add_pool(config, parse_pool(setting.value, setting.where));
                }
                return;
            }
            if (std::find(seen.begin(), seen.end(), setting.key) != seen.end()) {
                throw ConfigError("given twice");
            }
            seen.push_back(setting.key);
            if (!set_key(config, setting.key, setting.value)) {
                throw ConfigError(
                    "no such key; there are socket, admin_group, log_level, remove_on_exit, "
                    "max_connections_per_user, pool");
            }
        });
    }
}

PoolConfig read_pool_file(const fs::path& file) {
    PoolConfigBuilder builder = located(
        file.string(), "", [&] { return PoolConfigBuilder(file.stem().string(), file.string()); });
    for (const Setting& setting : read_settings(file)) {
        located(setting.where, "", [&] { builder.set(setting.key, setting.value); });
    }
    return located(file.string(), "", [&] { return builder.finish(); });
}

// Editors and package managers leave files of their own there: .#frames.conf, frames.conf~,
// frames.conf.dpkg-old.
bool is_pool_file(const fs::path& file) {
    return file.extension() == ".conf" && file.filename().string().front() != '.';
}

std::vector<fs::path> list_pool_files(const fs::path& directory) {
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
        if (is_pool_file(entry->path())) {
            files.push_back(entry->path());
        }
    }
    if (error && error != std::errc::no_such_file_or_directory) {
        throw ConfigError(fmt::format("cannot read {}: {}", directory.string(), error.message()));
    }
    std::sort(files.begin(), files.end());
    return files;
}

// Each file is one pool, so a bad one costs that pool alone.
void read_pool_files(Config& config, const fs::path& directory) {
    const auto keep_fault = [&](auto step) {
        try {
            step();
        } catch (const ConfigError& e) {
            config.faults.emplace_back(e.what());
        }
    };
    keep_fault([&] {
        for (const fs::path& file : list_pool_files(directory)) {
            keep_fault([&] {
                PoolConfig pool = read_pool_file(file);
                located(file.string(), "", [&] { add_pool(config, std::move(pool)); });
            });
        }
    });
}

/// `path` as it is from everywhere. The kernel resolves it, so ".." keeps its meaning.
std::string absolute_path(const CommandLine& line, const std::string& path) {
    if (path.empty() || fs::path(path).is_absolute()) {
        return path;
    }
    if (line.directory.empty()) {
        throw ConfigError(fmt::format(
            "'{}' is a relative path, and the directory in which mempoold was started is gone: "
            "give a path that begins with /",
            path));
    }
    return (line.directory / path).string();
}

void set_from_command_line(Config& config, const char* key,
                           const std::optional<std::string>& value) {
    if (value) {
        located(std::string("--") + key, "", [&] { set_key(config, key, *value); });
    }
}

}  // namespace

std::string join_faults(const Config& config) {
    return fmt::format("{}", fmt::join(config.faults, "; "));
}

Config load_config(const CommandLine& line, const fs::path& default_file) {
    Config config;
    std::error_code ignored;
    if (line.config) {
        config.file = absolute_path(line, *line.config);
    } else if (line.pools.empty() && fs::exists(default_file, ignored)) {
        config.file = default_file.string();
    }
    if (!config.file.empty()) {
        read_main_file(config, config.file, line.pools.empty());
        if (line.pools.empty()) {
            read_pool_files(config, fs::path(config.file).parent_path() / "pools.d");
        }
    }
    set_from_command_line(config, "socket", line.socket);
    config.socket = absolute_path(line, config.socket);
    set_from_command_line(config, "admin_group", line.admin_group);
    set_from_command_line(config, "log_level", line.log_level);
    set_from_command_line(config, "remove_on_exit", line.remove_on_exit);
    set_from_command_line(config, "max_connections_per_user", line.max_connections_per_user);
    for (const std::string& pool : line.pools) {
        located("--pool", "", [&] { add_pool(config, parse_pool(pool, "--pool")); });
    }
    if (config.pools.empty()) {
        if (!config.faults.empty()) {
            throw ConfigError(join_faults(config));
        }
        config.pools.push_back(parse_pool(kBuiltInPool, "built in"));
        config.built_in_pool = true;
    }
    return config;
}

std::string format_config(const Config& config) {
    std::string text;
    text += fmt::format("# {}\n", config.file.empty() ? "no configuration file" : config.file);
    text += fmt::format("{}socket = {}\n", config.socket.empty() ? "#" : "",
                        config.socket.empty() ? "(the default place)" : config.socket);
    text += fmt::format(
        "admin_group = {}\nlog_level = {}\nremove_on_exit = {}\nmax_connections_per_user = {}\n",
        config.admin_group, name_of(config.log_level), config.remove_on_exit ? "yes" : "no",
        config.max_connections_per_user);
    for (const PoolConfig& pool : config.pools) {
        text += fmt::format("# {}\npool = {}\n", pool.source, format_pool(pool));
    }
    return text;
}

}  // namespace mempoold
