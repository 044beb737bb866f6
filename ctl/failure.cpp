#include "failure.hpp"

#include <cerrno>

namespace mempoolctl {

Exit exit_of(const mempool::Error& error) {
    switch (error.code().value()) {
        case ENOENT:
        case ESRCH:
        case ECONNREFUSED:
        case ECONNRESET:
        case ENOTCONN:
        case EPIPE:
        case ETIMEDOUT:
            return Exit::kNotFound;
        case EACCES:
        case EPERM:
            return Exit::kNotAllowed;
        case EINVAL:
        case ENAMETOOLONG:
            return Exit::kUsage;
        default:
            return Exit::kFailure;
    }
}

}  // namespace mempoolctl
