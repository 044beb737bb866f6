// Users and groups of the system, by name or number.
//
// Used by the configuration's parsers, and by what prints a configuration. Reads the system's
// databases (getpwnam(3), getgrnam(3)); throws ConfigError for a name they don't know.
#pragma once

#include <sys/types.h>

#include <string>

namespace mempoold {

/// The uid of `user`, a name or a number.
uid_t uid_of(const std::string& user);
/// The gid of `group`, a name or a number.
gid_t gid_of(const std::string& group);

}  // namespace mempoold
