#include "raw_client.hpp"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace mempoold {

namespace shm = mempool::shm;

namespace {

constexpr std::chrono::seconds kPatience{30};

bool wait_readable(int fd) {
    pollfd request{fd, POLLIN, 0};
    return ::poll(&request, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) == 1;
}

}  // namespace

shm::Request make_resume(const std::string& pool, const PoolClient& client) {
    shm::Request request = make_request(RequestKind::kResume, pool);
    shm::payload::put(request, client.attachment());
    return request;
}

shm::Request make_goodbye(const PoolClient& client) {
    shm::Request request = make_request(RequestKind::kBye);
    const shm::payload::Attachment& mine = client.attachment();
    shm::payload::put(
        request, shm::payload::Bye{.token = mine.token, .client = mine.client, .key = mine.key});
    return request;
}

shm::Request make_request(RequestKind kind, const std::string& pool, std::uint64_t value) {
    shm::Request request;
    request.kind = kind;
    request.values[0] = value;
    shm::copy_text(request.pool, pool);
    return request;
}

bool eventually(const std::function<bool()>& holds) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

RawClient::RawClient(const std::string& socket_path)
    : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
        0) {
        throw std::system_error(errno, std::generic_category(), "connect " + socket_path);
    }
}

int RawClient::send(const shm::Request& request, int passed_fd) {
    return shm::send_message(socket_.get(), request, passed_fd);
}

int RawClient::send_bytes(std::string_view bytes) {
    return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0 ? errno : 0;
}

std::optional<shm::Reply> RawClient::receive(shm::UniqueFd* passed_fd) {
    shm::Reply reply;
    shm::UniqueFd fd;
    if (!wait_readable(socket_.get()) || shm::receive_message(socket_.get(), reply, fd) != 0) {
        return std::nullopt;
    }
    if (passed_fd != nullptr) {
        *passed_fd = std::move(fd);
    }
    return reply;
}

std::optional<shm::Reply> RawClient::ask(const shm::Request& request, shm::UniqueFd* passed_fd) {
    if (send(request) != 0) {
        return std::nullopt;
    }
    return receive(passed_fd);
}

std::optional<shm::Reply> RawClient::read(const shm::Request& request, std::string& data) {
    shm::Reply reply;
    data.assign(shm::kMaxReadBytes, '\0');
    std::size_t bytes = 0;
    if (send(request) != 0 || !wait_readable(socket_.get()) ||
        shm::receive_data(socket_.get(), reply, data.data(), data.size(), bytes) != 0) {
        return std::nullopt;
    }
    data.resize(bytes);
    return reply;
}

bool RawClient::is_closed() {
    std::array<char, 1024> buffer{};
    while (wait_readable(socket_.get())) {
        if (::recv(socket_.get(), buffer.data(), buffer.size(), 0) <= 0) {
            return true;
        }
    }
    return false;
}

PoolClient::PoolClient(const std::string& socket_path, const std::string& pool)
    : connection_(socket_path) {
    shm::UniqueFd fd;
    const auto reply = connection_.ask(make_request(RequestKind::kAttach, pool), &fd);
    if (!reply || reply->error != 0 || !fd) {
        throw std::runtime_error("attach: " +
                                 (reply ? std::string(shm::text_of(reply->text)) : "closed"));
    }
    attachment_ = shm::payload::of<shm::payload::Attachment>(*reply);
    id_ = shm::ClientId{static_cast<std::uint32_t>(attachment_.client)};
    shm::Header header{};
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0 ||
        ::pread(fd.get(), &header, sizeof(header), 0) != sizeof(header)) {
        throw std::runtime_error("attach: no header");
    }
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    if (const std::string fault = shm::check_header(header, bytes); !fault.empty()) {
        throw std::runtime_error("attach: " + fault);
    }
    map_.emplace(header.geometry.range_bytes);
    map_->map(fd.get(), 0, 0, bytes, true);
    view_ = shm::Pool(map_->base(), header.geometry);
    view_.lane(shm::LaneId{raw(id_)})
        .mapped_at.store(
            reinterpret_cast<std::uintptr_t>(map_->base()) | (attachment_.epoch & (shm::kPage - 1)),
            std::memory_order_relaxed);
}

std::uint32_t PoolClient::get(std::uint32_t wanted) {
    if (!lane_) {
        const shm::LaneId home{raw(id_)};
        if (!shm::try_claim_lane(view_, home, id_)) {
            throw std::runtime_error("the home lane is taken");
        }
        lane_.emplace(view_, home, id_, view_.client(id_).epoch.load());
        if (!lane_->open()) {
            throw std::runtime_error("no magazines");
        }
    }
    std::uint32_t got = 0;
    shm::Taken taken;
    while (got < wanted && lane_->get(view_.index_limit(), taken) == shm::GetResult::kOk) {
        ++got;
    }
    return got;
}

ChildProcess::ChildProcess(const std::function<void()>& work) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) {
        throw std::system_error(errno, std::generic_category(), "pipe");
    }
    const shm::UniqueFd read_end{pipe[0]};
    shm::UniqueFd write_end{pipe[1]};
    pid_ = ::fork();
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        std::string text = "ok";
        try {
            work();
        } catch (const std::exception& e) {
            text = e.what();
        }
        if (::write(write_end.get(), text.data(), text.size()) < 0) {
            ::_exit(1);
        }
        for (;;) {
            ::pause();
        }
    }
    write_end.reset();
    std::array<char, 512> said{};
    const ssize_t got = ::read(read_end.get(), said.data(), said.size());
    const std::string text(said.data(), static_cast<std::size_t>(got > 0 ? got : 0));
    if (text != "ok") {
        kill9();
        throw std::runtime_error("in the child: " + text);
    }
}

ChildProcess::~ChildProcess() {
    if (pid_ > 0) {
        kill9();
    }
}

void ChildProcess::kill9() {
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

void ChildProcess::stop() const { ::kill(pid_, SIGSTOP); }
void ChildProcess::cont() const { ::kill(pid_, SIGCONT); }

}  // namespace mempoold
