#include "run_ctl.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "mempool/shm/words/unique_fd.hpp"

namespace mempool_test {

namespace {

using mempool::shm::UniqueFd;

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

UniqueFd checked(int fd, const char* what) {
    if (fd < 0) {
        throw std::system_error(errno, std::generic_category(), what);
    }
    return UniqueFd(fd);
}

UniqueFd create(const std::string& path) {
    return checked(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), "open");
}

std::array<UniqueFd, 2> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        throw std::system_error(errno, std::generic_category(), "pipe2");
    }
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// What the child writes to; `reader` gets the other end of a terminal or pipe that is to be read.
UniqueFd open_output(Stdout kind, const std::string& path, UniqueFd& reader) {
    switch (kind) {
        case Stdout::kTerminal: {
            reader = checked(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), "posix_openpt");
            std::array<char, 64> name{};
            if (::grantpt(reader.get()) != 0 || ::unlockpt(reader.get()) != 0 ||
                ::ptsname_r(reader.get(), name.data(), name.size()) != 0) {
                throw std::system_error(errno, std::generic_category(), "pseudo terminal");
            }
            return checked(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC), "open a terminal");
        }
        case Stdout::kClosedPipe:
            return std::move(make_pipe()[1]);
        case Stdout::kSlowPipe: {
            auto [read_end, write_end] = make_pipe();
            if (::fcntl(write_end.get(), F_SETPIPE_SZ, 4096) < 0) {
                throw std::system_error(errno, std::generic_category(), "F_SETPIPE_SZ");
            }
            reader = std::move(read_end);
            return std::move(write_end);
        }
        case Stdout::kFullDevice:
            return checked(::open("/dev/full", O_WRONLY | O_CLOEXEC), "open /dev/full");
        case Stdout::kFile:
            break;
    }
    return create(path);
}

std::string read_all(int reader) {
    std::string text;
    std::array<char, 4096> part{};
    for (;;) {
        const ssize_t got = ::read(reader, part.data(), part.size());
        if (got <= 0) {
            return text;  // a terminal gives EIO when the last writer has closed it
        }
        text.append(part.data(), static_cast<std::size_t>(got));
    }
}

std::vector<std::string> make_environment(const CtlOptions& options) {
    std::vector<std::string> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string text = *entry;
        if (text.rfind("MEMPOOL_SOCKET=", 0) != 0 && text.rfind("NO_COLOR=", 0) != 0 &&
            text.rfind("TERM=", 0) != 0) {
            environment.push_back(text);
        }
    }
    environment.emplace_back("TERM=xterm");
    environment.insert(environment.end(), options.environment.begin(), options.environment.end());
    return environment;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    result.reserve(texts.size() + 1);
    for (std::string& text : texts) {
        result.push_back(text.data());
    }
    result.push_back(nullptr);
    return result;
}

// Only async-signal-safe calls: the test may have threads.
[[noreturn]] void become_ctl(int out, int err, unsigned uid, char* const* argv, char* const* envp) {
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    if (uid != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(uid) != 0 || ::setuid(uid) != 0)) {
        ::_exit(125);
    }
    ::execve(argv[0], argv, envp);
    ::_exit(126);
}

}  // namespace

Finished run_ctl(std::vector<std::string> arguments, const CtlOptions& options) {
    const TemporaryDirectory directory;
    const std::string out_path = directory.path() + "/out";
    const std::string err_path = directory.path() + "/err";
    UniqueFd reader;
    UniqueFd out = open_output(options.out, out_path, reader);
    UniqueFd err = create(err_path);

    arguments.insert(arguments.begin(), MEMPOOLCTL_PATH);
    std::vector<std::string> environment = make_environment(options);
    const std::vector<char*> argv = pointers(arguments);
    const std::vector<char*> envp = pointers(environment);
    const pid_t child = ::fork();
    if (child < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (child == 0) {
        become_ctl(out.get(), err.get(), options.uid, argv.data(), envp.data());
    }
    out.reset();
    Finished finished;
    if (options.meanwhile && reader) {
        pollfd waiting{reader.get(), POLLIN, 0};
        ::poll(&waiting, 1, -1);
        options.meanwhile();
    }
    finished.out = reader ? read_all(reader.get()) : "";
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (options.out == Stdout::kFile) {
        finished.out = read_file(out_path);
    }
    finished.err = read_file(err_path);
    return finished;
}

}  // namespace mempool_test
