// Names: what strangers put where the daemon might look, and what they do to what stands there.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <mempool/shm/words/layout.hpp>
#include <string>
#include <system_error>

#include "siege/acts.hpp"
#include "siege/attacker.hpp"
#include "support/pool_objects.hpp"

namespace mempool_test {

namespace {

using namespace std::chrono_literals;
using mempool::shm::UniqueFd;

constexpr auto kSquatTime = 1500ms;

const std::string& any_pool(Attacker& a) {
    return a.below(2) == 0 ? a.scene().open_pool : a.scene().work_pool;
}

// The first number that no segment of `pool` with a plain name has.
std::string next_number(const std::string& pool) {
    std::uint32_t number = 1;
    const std::string plain = "/dev/shm/mempool." + pool + ".";
    while (number < mempool::shm::kMaxSegments &&
           ::access((plain + std::to_string(number)).c_str(), F_OK) == 0) {
        ++number;
    }
    return std::to_string(number);
}

// A name that the daemon might use next: of the pool, of a segment, of what it sets aside, or one
// that looks as if it were drawn at random.
std::string foreseen(Attacker& a) {
    const std::string& pool = any_pool(a);
    std::string name = "/dev/shm/mempool." + pool;
    switch (a.below(5)) {
        case 0:
            return name;
        case 1:
            return name + "." + next_number(pool);
        case 2:
            return name + "." + std::to_string(1 + a.below(255));
        case 3:
            return name + ".aside-" + std::to_string(std::time(nullptr) + 1);
        default: {
            std::array<char, 24> hex{};
            std::snprintf(hex.data(), hex.size(), ".%016llx",
                          static_cast<unsigned long long>(a.random()));
            return name + hex.data();
        }
    }
}

void remove_later(Attacker& a, const std::string& path) {
    a.later(a.about(kSquatTime), [path] {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    });
}

UniqueFd squat(Attacker& a, std::string* path = nullptr, mode_t mode = 0666) {
    const std::string name = foreseen(a);
    UniqueFd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (fd) {
        ::fchmod(fd.get(), mode);
        remove_later(a, name);
        if (path != nullptr) {
            *path = name;
        }
    }
    return fd;
}

bool squat_file(Attacker& a) { return static_cast<bool>(squat(a)); }

bool squat_fifo(Attacker& a) {
    const std::string name = foreseen(a);
    if (::mkfifo(name.c_str(), 0666) != 0) {
        return false;
    }
    remove_later(a, name);
    return true;
}

bool squat_symlink(Attacker& a) {
    const std::string name = foreseen(a);
    constexpr std::array kTargets = {"/etc/passwd", "/dev/zero", "/dev/shm", "/proc/self/mem", "."};
    if (::symlink(kTargets.at(a.below(kTargets.size())), name.c_str()) != 0) {
        return false;
    }
    remove_later(a, name);
    return true;
}

bool squat_directory(Attacker& a) {
    const std::string name = foreseen(a);
    if (::mkdir(name.c_str(), 0777) != 0) {
        return false;
    }
    remove_later(a, name);
    return true;
}

bool squat_socket(Attacker& a) {
    const std::string name = foreseen(a);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof(address.sun_path) - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return false;
    }
    a.hold(std::move(fd), kSquatTime);
    remove_later(a, name);
    return true;
}

// A file that begins as a pool's first segment does.
bool squat_forged_pool(Attacker& a) {
    const UniqueFd fd = squat(a);
    mempool::shm::Header header{};
    header.magic = mempool::shm::kMagic;
    return fd && ::ftruncate(fd.get(), off_t{1} << 30U) == 0 &&
           ::pwrite(fd.get(), &header, sizeof(header), 0) == sizeof(header);
}

// Whoever opens it sleeps until the lease is broken, 45 s.
bool squat_with_lease(Attacker& a) {
    UniqueFd fd = squat(a);
    if (!fd || ::fcntl(fd.get(), F_SETLEASE, F_WRLCK) != 0) {
        return false;
    }
    ::fcntl(fd.get(), F_SETSIG, SIGURG);  // ignored unless caught, where SIGIO would kill
    a.hold(std::move(fd), a.about(kSquatTime));
    return true;
}

bool squat_with_lock(Attacker& a) {
    UniqueFd fd = squat(a);
    struct flock all {};
    all.l_type = F_WRLCK;
    if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 ||
        ::fcntl(fd.get(), F_OFD_SETLK, &all) != 0) {
        return false;
    }
    a.hold(std::move(fd), a.about(kSquatTime));
    return true;
}

// All that stands in /dev/shm and in the daemon's directories and belongs to these pools or to it.
std::vector<std::string> what_stands(Attacker& a) {
    std::vector<std::string> found;
    for (const std::string& pool : {a.scene().work_pool, a.scene().open_pool}) {
        found.push_back("/dev/shm/mempool." + pool);
        for (const std::string& object : objects_of(pool)) {
            found.push_back("/dev/shm/" + object);
        }
    }
    std::error_code ignored;
    for (auto at = std::filesystem::recursive_directory_iterator(
             a.scene().socket_directory, std::filesystem::directory_options::skip_permission_denied,
             ignored);
         !ignored && at != std::filesystem::recursive_directory_iterator(); at.increment(ignored)) {
        found.push_back(at->path());
    }
    found.push_back(a.scene().socket_directory);
    return found;
}

// Of an object, or of what the daemon keeps to itself; the index of pools is for everybody.
bool is_private(const std::string& path) {
    return path.starts_with("/dev/shm/") || path.find("/private") != std::string::npos;
}

bool is_the_daemons(Attacker& a, const std::string& path) {
    struct stat status {};
    struct stat socket {};
    return ::lstat(path.c_str(), &status) == 0 && ::lstat(a.scene().socket.c_str(), &socket) == 0 &&
           status.st_uid == socket.st_uid;
}

UniqueFd open_to_read(Attacker& a, const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (fd && is_private(path) && is_the_daemons(a, path)) {
        a.breach("opened " + path);
    }
    return fd;
}

bool lock_what_opens(Attacker& a) {
    for (const std::string& path : what_stands(a)) {
        UniqueFd fd = open_to_read(a, path);
        if (fd) {
            struct flock all {};
            all.l_type = F_RDLCK;
            ::flock(fd.get(), LOCK_EX | LOCK_NB);
            ::fcntl(fd.get(), F_OFD_SETLK, &all);
            a.hold(std::move(fd), 400ms);
        }
    }
    return true;
}

bool lease_what_opens(Attacker& a) {
    for (const std::string& path : what_stands(a)) {
        UniqueFd fd = open_to_read(a, path);
        if (fd && (::fcntl(fd.get(), F_SETLEASE, F_RDLCK) == 0 ||
                   ::fcntl(fd.get(), F_SETLEASE, F_WRLCK) == 0)) {
            ::fcntl(fd.get(), F_SETSIG, SIGURG);
            a.hold(std::move(fd), 400ms);
        }
    }
    return true;
}

bool truncate_what_opens(Attacker& a) {
    for (const std::string& path : what_stands(a)) {
        const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
        if (fd && is_the_daemons(a, path)) {
            a.breach("opened for writing " + path);
            (void)!::ftruncate(fd.get(), 0);
        }
    }
    return true;
}

bool unlink_and_rename(Attacker& a) {
    for (const std::string& path : what_stands(a)) {
        if (is_the_daemons(a, path) &&
            (::unlink(path.c_str()) == 0 || ::rename(path.c_str(), (path + "x").c_str()) == 0)) {
            a.breach("took away " + path);
        }
    }
    return true;
}

bool hard_link_objects(Attacker& a) {
    bool done = false;
    for (const std::string& path : what_stands(a)) {
        const std::string name = foreseen(a);
        if (path.starts_with("/dev/shm/") && ::link(path.c_str(), name.c_str()) == 0) {
            remove_later(a, name);
            done = true;
        }
    }
    return done;
}

bool write_to_socket_directory(Attacker& a) {
    const std::string& directory = a.scene().socket_directory;
    for (const char* name : {"/pools", "/pools.new", "/mempoold.lock", "/private", "/x"}) {
        const std::string path = directory + name;
        const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666));
        if (fd || ::mkdir(path.c_str(), 0777) == 0 || ::chmod(path.c_str(), 0777) == 0) {
            a.breach("wrote " + path);
        }
    }
    if (::rename(directory.c_str(), (directory + "-mine").c_str()) == 0) {
        a.breach("renamed " + directory);
    }
    return true;
}

bool take_the_sockets_name(Attacker& a) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    a.scene().socket.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (::unlink(a.scene().socket.c_str()) == 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
        a.breach("took the socket's place");
    }
    return true;
}

constexpr std::array kNameActs = {
    Act{"squat: file", Who::kStranger, squat_file},
    Act{"squat: fifo", Who::kStranger, squat_fifo},
    Act{"squat: symlink", Who::kStranger, squat_symlink},
    Act{"squat: directory", Who::kStranger, squat_directory},
    Act{"squat: socket", Who::kStranger, squat_socket},
    Act{"squat: forged pool", Who::kStranger, squat_forged_pool},
    Act{"squat: leased file", Who::kStranger, squat_with_lease},
    Act{"squat: locked file", Who::kStranger, squat_with_lock},
    Act{"objects: lock", Who::kStranger, lock_what_opens},
    Act{"objects: lease", Who::kStranger, lease_what_opens},
    Act{"objects: truncate", Who::kStranger, truncate_what_opens},
    Act{"objects: unlink, rename", Who::kStranger, unlink_and_rename},
    Act{"objects: hard link", Who::kStranger, hard_link_objects, true},
    Act{"directory: write", Who::kStranger, write_to_socket_directory},
    Act{"directory: bind", Who::kStranger, take_the_sockets_name},
};

}  // namespace

std::span<const Act> name_acts() { return kNameActs; }

}  // namespace mempool_test
