#include "daemon/supervision/process.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <sstream>
#include <string_view>
#include <utility>

namespace mempoold {

namespace {

/// PIDFS_MAGIC: since Linux 6.9 a pidfd has an inode of its own, never used twice.
constexpr long kPidfsMagic = 0x50494446;

constexpr std::size_t kLongestStat = 65536;
constexpr std::size_t kLongestMaps = std::size_t{16} << 20U;
constexpr std::chrono::milliseconds kLongestRead{250};

// The inode of one of this process's namespaces; 0 if that cannot be told.
std::uint32_t own_namespace(const char* kind) noexcept {
    struct stat status {};
    return ::stat(kind, &status) == 0 ? static_cast<std::uint32_t>(status.st_ino) : 0;
}

std::uint32_t own_pid_namespace() noexcept {
    static const std::uint32_t kInode = own_namespace("/proc/self/ns/pid");
    return kInode;
}

// 1, which is no inode's number, on a kernel without time namespaces.
std::uint32_t own_time_namespace() noexcept {
    static const std::uint32_t kInode = std::max(own_namespace("/proc/self/ns/time"), 1U);
    return kInode;
}

// Whether numbers below /proc are those of this process's own pid namespace: a /proc that was
// mounted in another one shows other processes under the same numbers.
bool proc_is_ours() {
    static const bool kOurs = [] {
        std::array<char, 32> self{};
        const ssize_t length = ::readlink("/proc/self", self.data(), self.size());
        return length > 0 && std::string_view(self.data(), static_cast<std::size_t>(length)) ==
                                 std::to_string(::getpid());
    }();
    return kOurs;
}

// The inode of a pidfd where that tells the process for good; else 0.
std::uint64_t pidfs_inode(int pidfd) noexcept {
    struct statfs system {};
    struct stat status {};
    if (::fstatfs(pidfd, &system) != 0 || system.f_type != kPidfsMagic ||
        ::fstat(pidfd, &status) != 0) {
        return 0;
    }
    return status.st_ino;
}

// A whole file below /proc/PID; nullopt if it cannot be read to its end within the bounds.
std::optional<std::string> read_proc(pid_t pid, const char* name, std::size_t longest) {
    if (pid <= 0 || !proc_is_ours()) {
        return std::nullopt;
    }
    const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
    const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) {
        return std::nullopt;
    }
    const auto give_up = std::chrono::steady_clock::now() + kLongestRead;
    std::string content;
    std::array<char, 16384> buffer{};
    while (content.size() <= longest && std::chrono::steady_clock::now() < give_up) {
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
    return std::nullopt;
}

}  // namespace

UniqueFd open_pidfd(pid_t pid) noexcept {
    return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}

bool has_ended(int pidfd) noexcept {
    pollfd request{pidfd, POLLIN, 0};
    return ::poll(&request, 1, 0) == 1 && (request.revents & POLLIN) != 0;
}

ProcessId identify(int pidfd, pid_t pid) {
    ProcessId id;
    id.pid = pid;
    id.pid_namespace = own_pid_namespace();
    id.key = pidfs_inode(pidfd);
    if (id.key == 0) {
        id.key = start_time(pid).value_or(0);
        id.time_namespace = own_time_namespace();
    }
    return id;
}

bool may_be(int pidfd, const ProcessId& id) noexcept {
    const std::uint64_t inode = pidfs_inode(pidfd);
    return inode == 0 || id.pid_namespace == 0 || id.time_namespace != 0 || id.key == inode;
}

Fate judge(const ProcessId& id, UniqueFd& pidfd) {
    // A number of another namespace may be anybody's here. That it is nobody's says nothing then,
    // and only what is unique on the whole machine says that it is the one.
    const bool ours = id.pid_namespace != 0 && id.pid_namespace == own_pid_namespace();
    const Fate if_not = ours ? Fate::kDead : Fate::kUnknown;
    if (id.pid <= 0) {
        return Fate::kUnknown;
    }
    UniqueFd found = open_pidfd(id.pid);
    if (!found) {
        // EINVAL, ENOENT: the number is a thread's now, so the process that had it is gone.
        return errno == ESRCH || errno == EINVAL || errno == ENOENT ? if_not : Fate::kUnknown;
    }
    if (id.key == 0) {
        return Fate::kUnknown;
    }
    const std::uint64_t inode = pidfs_inode(found.get());
    std::uint64_t now = inode;
    bool same_scale = id.time_namespace == 0 && inode != 0;
    bool unique = same_scale;
    if (id.pid_namespace == 0 || id.time_namespace != 0) {
        // When it started. A release before this one wrote that down without its namespaces.
        now = start_time(id.pid).value_or(0);
        same_scale =
            now != 0 && (id.pid_namespace == 0 || id.time_namespace == own_time_namespace());
        unique = ours || id.pid_namespace == 0;
    }
    if (!same_scale) {
        return Fate::kUnknown;
    }
    if (now != id.key) {
        return if_not;
    }
    if (!unique) {
        return Fate::kUnknown;
    }
    if (has_ended(found.get())) {
        return Fate::kDead;
    }
    pidfd = std::move(found);
    return Fate::kAlive;
}

std::optional<std::uint64_t> start_time(pid_t pid) {
    const auto stat = read_proc(pid, "stat", kLongestStat);
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
    std::string command = read_proc(pid, "comm", kLongestStat).value_or("");
    while (!command.empty() && command.back() == '\n') {
        command.pop_back();
    }
    return command;
}

// A line of maps: START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH, all but the inode in
// hexadecimal.
Mapping find_mapping(int pidfd, const ProcessId& id, const MappedFile& file) {
    if (id.pid_namespace != own_pid_namespace()) {
        return Mapping::kUnknown;
    }
    const auto maps = read_proc(id.pid, "maps", kLongestMaps);
    // Alive afterwards: so the number was its own while the file was read.
    if (!maps || maps->empty() || has_ended(pidfd)) {
        return Mapping::kUnknown;
    }
    const std::string wanted =
        fmt::format(" {:02x}:{:02x} {} ", major(file.device), minor(file.device), file.inode);
    const std::string start = file.address == 0 ? "" : fmt::format("{:08x}-", file.address);
    std::istringstream lines(*maps);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(wanted) != std::string::npos && line.starts_with(start)) {
            return Mapping::kPresent;
        }
    }
    return Mapping::kAbsent;
}

}  // namespace mempoold
