#include "daemon/config/pool_config.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <limits>
#include <utility>

#include "daemon/config/accounts.hpp"
#include "mempool/shm/depot/create.hpp"
#include "mempool/shm/words/names.hpp"

namespace mempoold {

namespace {

namespace shm = mempool::shm;

std::uint32_t parse_slots(std::string_view text) {
    return static_cast<std::uint32_t>(parse_number(text, 1, shm::kMaxIndices));
}

std::uint32_t parse_shards(std::string_view text) {
    if (text == "auto") {
        return 0;
    }
    const auto shards = static_cast<std::uint32_t>(parse_number(text, 1, shm::kMaxShards));
    if (!std::has_single_bit(shards)) {
        throw ConfigError(fmt::format("'{}' is not a power of two", text));
    }
    return shards;
}

// One for each processor, but none that would never have a magazine.
std::uint32_t shards_for(const shm::Shape& shape) {
    const auto processors =
        static_cast<std::uint32_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    const std::uint32_t magazines = std::max(1U, shape.max_slots / shape.magazine_capacity);
    return std::min({std::bit_ceil(processors), std::bit_ceil(magazines), shm::kMaxShards});
}

PoolConfig::Backing parse_backing(std::string_view text) {
    if (text == "shm") {
        return PoolConfig::Backing::kShm;
    }
    if (text == "memfd") {
        return PoolConfig::Backing::kMemfd;
    }
    throw ConfigError(fmt::format("'{}' is not shm or memfd", text));
}

void set_users(PoolConfig& to, std::string_view text) {
    for (const std::string& user : parse_list(text)) {
        if (user == "*") {
            to.access.everybody = true;
        } else {
            to.access.users.push_back(uid_of(user));
        }
        to.allow_users += (to.allow_users.empty() ? "" : "+") + user;
    }
}

void set_groups(PoolConfig& to, std::string_view text) {
    for (const std::string& group : parse_list(text)) {
        to.access.groups.push_back(gid_of(group));
        to.allow_groups += (to.allow_groups.empty() ? "" : "+") + group;
    }
}

struct Key {
    std::string_view name;
    void (*set)(PoolConfig& to, std::string_view value);
};

constexpr std::array<Key, 19> kKeys{{
    {"slot_size", [](PoolConfig& to, std::string_view v) { to.slot_size = parse_size(v); }},
    {"slots", [](PoolConfig& to, std::string_view v) { to.slots = parse_slots(v); }},
    {"max_slots", [](PoolConfig& to, std::string_view v) { to.max_slots = parse_slots(v); }},
    {"grow_factor", [](PoolConfig& to, std::string_view v) { to.grow_factor = parse_factor(v); }},
    {"grow_slots", [](PoolConfig& to, std::string_view v) { to.grow_slots = parse_slots(v); }},
    {"low_watermark",
     [](PoolConfig& to, std::string_view v) { to.low_watermark = parse_watermark(v); }},
    {"erase_on_put", [](PoolConfig& to, std::string_view v) { to.erase_on_put = parse_switch(v); }},
    {"cache_bytes", [](PoolConfig& to, std::string_view v) { to.cache_bytes = parse_size(v); }},
    {"max_clients",
     [](PoolConfig& to, std::string_view v) {
         to.max_clients = static_cast<std::uint32_t>(parse_number(v, 1, shm::kMaxClients - 1));
     }},
    {"shards", [](PoolConfig& to, std::string_view v) { to.shards = parse_shards(v); }},
    {"max_clients_per_user",
     [](PoolConfig& to, std::string_view v) {
         to.max_clients_per_user =
             static_cast<std::uint32_t>(parse_number(v, 0, shm::kMaxClients - 1));
     }},
    {"quota",
     [](PoolConfig& to, std::string_view v) {
         to.quota = static_cast<std::uint32_t>(parse_number(v, 0, shm::kMaxIndices));
     }},
    {"detached_ttl",
     [](PoolConfig& to, std::string_view v) {
         constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
         to.detached_ttl_s = static_cast<std::uint32_t>(parse_number(v, 0, kMost));
     }},
    {"backing", [](PoolConfig& to, std::string_view v) { to.backing = parse_backing(v); }},
    {"owner", [](PoolConfig& to, std::string_view v) { to.owner = uid_of(std::string(v)); }},
    {"group", [](PoolConfig& to, std::string_view v) { to.group = gid_of(std::string(v)); }},
    {"mode", [](PoolConfig& to, std::string_view v) { to.mode = parse_mode(v); }},
    {"allow_users", set_users},
    {"allow_groups", set_groups},
}};

std::string known_keys() {
    std::string list;
    for (const Key& key : kKeys) {
        list += (list.empty() ? "" : ", ") + std::string(key.name);
    }
    return list;
}

// Splits `text` at the first `separator`; the second half is empty if there is none.
std::pair<std::string_view, std::string_view> cut(std::string_view text, char separator) {
    const std::size_t at = text.find(separator);
    if (at == std::string_view::npos) {
        return {text, {}};
    }
    return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

shm::Shape PoolConfig::shape() const noexcept {
    shm::Shape shape;
    shape.slot_size = slot_size;
    shape.max_slots = max_slots;
    shape.magazine_capacity = shm::choose_magazine_capacity(slot_size, slots, cache_bytes);
    shape.client_count = max_clients + 1;  // the daemon has a record too
    shape.shard_count = static_cast<std::uint16_t>(shards != 0 ? shards : shards_for(shape));
    return shape;
}

PoolConfigBuilder::PoolConfigBuilder(std::string_view name, std::string source) {
    if (const std::string fault = shm::check_pool_name(name); !fault.empty()) {
        throw ConfigError(fault);
    }
    config_.name = name;
    config_.source = std::move(source);
}

void PoolConfigBuilder::set(std::string_view key, std::string_view value) {
    const auto* known =
        std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& k) { return k.name == key; });
    if (known == kKeys.end()) {
        throw ConfigError(fmt::format("a pool has no key '{}'; it has {}", key, known_keys()));
    }
    if (std::find(seen_.begin(), seen_.end(), key) != seen_.end()) {
        throw ConfigError(fmt::format("key '{}' is given twice", key));
    }
    seen_.emplace_back(key);
    try {
        known->set(config_, trimmed(value));
    } catch (const ConfigError& e) {
        throw ConfigError(fmt::format("{}: {}", key, e.what()));
    }
}

PoolConfig PoolConfigBuilder::finish() {
    PoolConfig& c = config_;
    if (c.slot_size == 0) {
        throw ConfigError("slot_size is missing");
    }
    if (c.slots == 0) {
        throw ConfigError("slots is missing");
    }
    if (c.max_slots == 0) {
        c.max_slots = c.slots;
    }
    if (c.max_slots < c.slots) {
        throw ConfigError(
            fmt::format("max_slots ({}) is less than slots ({})", c.max_slots, c.slots));
    }
    if (c.grow_factor && c.grow_slots) {
        throw ConfigError("grow_factor and grow_slots contradict each other: give one of them");
    }
    const auto given = [this](std::string_view key) {
        return std::find(seen_.begin(), seen_.end(), key) != seen_.end();
    };
    if (c.backing == PoolConfig::Backing::kMemfd &&
        (given("owner") || given("group") || given("mode"))) {
        throw ConfigError(
            "owner, group and mode are of files in /dev/shm, and a pool with backing=memfd has "
            "none: leave them away");
    }
    if (c.low_watermark.of(c.slots) > c.slots) {
        throw ConfigError(fmt::format("low_watermark ({}) is more than slots ({})",
                                      c.low_watermark.value, c.slots));
    }
    if (!shm::make_geometry(c.shape())) {
        throw ConfigError(fmt::format(
            "{} slots of {} bytes for {} clients are more than a pool can have: at most 64 TiB and "
            "about 16 million magazines",
            c.max_slots, c.slot_size, c.max_clients));
    }
    return std::move(c);
}

PoolConfig parse_pool(std::string_view text, std::string source) {
    constexpr std::string_view kForm = "write it as NAME:SLOT_SIZExSLOTS[,key=value...]";
    const auto [name, rest] = cut(text, ':');
    if (name.size() == text.size()) {
        throw ConfigError(fmt::format("'{}' has no ':' after the pool's name: {}", text, kForm));
    }
    PoolConfigBuilder builder(trimmed(name), std::move(source));
    auto [dimensions, keys] = cut(rest, ',');
    const auto [size, slots] = cut(dimensions, 'x');
    if (trimmed(size).empty() || trimmed(slots).empty()) {
        throw ConfigError(fmt::format("'{}' is not SLOT_SIZExSLOTS: {}", dimensions, kForm));
    }
    builder.set("slot_size", size);
    builder.set("slots", slots);
    if (dimensions.size() < rest.size() && trimmed(keys).empty()) {
        throw ConfigError(fmt::format("a key is missing after the last ',': {}", kForm));
    }
    while (!keys.empty()) {
        const auto [pair, further] = cut(keys, ',');
        const auto [key, value] = cut(pair, '=');
        if (key.size() == pair.size()) {
            throw ConfigError(fmt::format("'{}' is not key=value: {}", pair, kForm));
        }
        builder.set(trimmed(key), value);
        if (pair.size() < keys.size() && trimmed(further).empty()) {
            throw ConfigError(fmt::format("a key is missing after the last ',': {}", kForm));
        }
        keys = further;
    }
    return builder.finish();
}

std::string format_pool(const PoolConfig& c) {
    std::string line = fmt::format("{}:{}x{},max_slots={}", c.name, format_size(c.slot_size),
                                   c.slots, c.max_slots);
    if (c.grow_slots) {
        line += fmt::format(",grow_slots={}", *c.grow_slots);
    } else {
        line += fmt::format(",grow_factor={}", c.grow_factor.value_or(2));
    }
    line += fmt::format(
        ",low_watermark={}{},erase_on_put={},cache_bytes={},max_clients={},shards={},"
        "max_clients_per_user={},quota={}",
        c.low_watermark.value, c.low_watermark.percent ? "%" : "", c.erase_on_put ? "yes" : "no",
        format_size(c.cache_bytes), c.max_clients,
        c.shards == 0 ? "auto" : std::to_string(c.shards), c.max_clients_per_user, c.quota);
    const bool named = c.backing == PoolConfig::Backing::kShm;
    line += fmt::format(",backing={}", named ? "shm" : "memfd");
    if (c.owner) {
        line += fmt::format(",owner={}", *c.owner);
    }
    if (c.group) {
        line += fmt::format(",group={}", *c.group);
    }
    if (named) {
        line += fmt::format(",mode={:04o}", c.mode);
    }
    line += fmt::format(",detached_ttl={}", c.detached_ttl_s);
    if (!c.allow_users.empty()) {
        line += fmt::format(",allow_users={}", c.allow_users);
    }
    if (!c.allow_groups.empty()) {
        line += fmt::format(",allow_groups={}", c.allow_groups);
    }
    return line;
}

}  // namespace mempoold
