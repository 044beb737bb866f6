#include "daemon/config/accounts.hpp"

#include <fmt/core.h>
#include <grp.h>
#include <pwd.h>

#include <limits>
#include <optional>

#include "daemon/config/units.hpp"

namespace mempoold {

namespace {

// (uid_t)-1 means "no change" to chown(2) and is nobody's.
constexpr std::uint64_t kLastId = std::numeric_limits<std::uint32_t>::max() - 1;

std::optional<std::uint32_t> as_number(const std::string& text) {
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
        return std::nullopt;
    }
    return static_cast<std::uint32_t>(parse_number(text, 0, kLastId));
}

}  // namespace

uid_t uid_of(const std::string& user) {
    if (const passwd* entry = ::getpwnam(user.c_str()); entry != nullptr) {
        return entry->pw_uid;
    }
    if (const auto number = as_number(user)) {
        return *number;
    }
    throw ConfigError(fmt::format("there is no user '{}' on this system", user));
}

gid_t gid_of(const std::string& group) {
    if (const ::group* entry = ::getgrnam(group.c_str()); entry != nullptr) {
        return entry->gr_gid;
    }
    if (const auto number = as_number(group)) {
        return *number;
    }
    throw ConfigError(fmt::format("there is no group '{}' on this system", group));
}

}  // namespace mempoold
