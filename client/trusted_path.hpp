// Whether a privileged program may trust what listens at a path.
//
// Used by Connection where the program runs with more rights than its caller (set-uid, set-gid,
// file capabilities). The environment is ignored there already; this is for a path that the program
// was given in some other way. Whoever can put a socket there chooses the memory that the program
// works in. Opens nothing; asks the file system only.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>

namespace mempool::detail {

/// Empty if only root, `user` or one to whom they gave the last directory can have put something at
/// the absolute `path`; else the part of it that somebody else may change. Each directory on the
/// way must be root's or the user's, and the last one may be the daemon's (RuntimeDirectory=
/// belongs to it); none may be written by others.
[[nodiscard]] inline std::string distrusted_part_of(const std::string& path, uid_t user) {
    const std::size_t last = path.rfind('/');
    for (std::size_t end = 0; end != std::string::npos && end <= last;) {
        std::string part = path.substr(0, end == 0 ? 1 : end);
        struct stat status {};
        if (::stat(part.c_str(), &status) != 0) {
            return part;
        }
        const bool owned = status.st_uid == 0 || status.st_uid == user || end == last;
        const mode_t strangers = S_IWOTH | (status.st_gid == 0 || end == last ? 0U : S_IWGRP);
        if (!owned || (status.st_mode & strangers) != 0) {
            return part;
        }
        end = path.find('/', end + 1);
    }
    return {};
}

}  // namespace mempool::detail
