#include "daemon/supervision/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <sstream>

namespace mempoold {

namespace {

// A whole file below /proc/PID; nullopt if it can't be read to its end.
std::optional<std::string> read_proc(pid_t pid, const char* name) {
    const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
    const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) {
        return std::nullopt;
    }
    std::string content;
    std::array<char, 16384> buffer{};
    for (;;) {
        const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return std::nullopt;
        }
        if (got == 0) {
            return content;
        }
        content.append(buffer.data(), static_cast<std::size_t>(got));
    }
}

}  // namespace

UniqueFd open_pidfd(pid_t pid) noexcept {
    return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}

bool has_ended(int pidfd) noexcept {
    pollfd request{pidfd, POLLIN, 0};
    return ::poll(&request, 1, 0) == 1 && (request.revents & POLLIN) != 0;
}

std::optional<std::uint64_t> start_time(pid_t pid) {
    const auto stat = read_proc(pid, "stat");
    if (!stat) {
        return std::nullopt;
    }
    // The command in field 2 may contain anything, so count from its closing bracket on.
    const std::size_t bracket = stat->rfind(')');
    if (bracket == std::string::npos) {
        return std::nullopt;
    }
    std::istringstream rest(stat->substr(bracket + 1));
    std::string field;
    constexpr int kFieldsToSkip = 22 - 3;
    for (int k = 0; k < kFieldsToSkip; ++k) {
        rest >> field;
    }
    std::uint64_t ticks = 0;
    if (!(rest >> ticks)) {
        return std::nullopt;
    }
    return ticks;
}

std::uint64_t ticks_since_boot() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    const auto per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
    return static_cast<std::uint64_t>(now.tv_sec) * per_second +
           static_cast<std::uint64_t>(now.tv_nsec) * per_second / 1'000'000'000U;
}

std::string command_of(pid_t pid) {
    std::string command = read_proc(pid, "comm").value_or("");
    while (!command.empty() && command.back() == '\n') {
        command.pop_back();
    }
    return command;
}

// A line of maps: START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH, the device in hexadecimal.
Mapping find_mapping(pid_t pid, dev_t device, ino_t inode) {
    const auto maps = read_proc(pid, "maps");
    if (!maps || maps->empty()) {
        return Mapping::kUnknown;
    }
    std::array<char, 64> wanted{};
    const int length = std::snprintf(wanted.data(), wanted.size(), " %02x:%02x %" PRIu64 " ",
                                     major(device), minor(device), std::uint64_t{inode});
    return maps->find(std::string_view(wanted.data(), static_cast<std::size_t>(length))) !=
                   std::string::npos
               ? Mapping::kPresent
               : Mapping::kAbsent;
}

}  // namespace mempoold
