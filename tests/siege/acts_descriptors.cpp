// Descriptors that come along with messages: those whose close() sleeps, recurses, or is long.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "siege/acts.hpp"
#include "siege/attacker.hpp"
#include "siege/connection.hpp"

namespace mempool_test {

namespace {

using namespace std::chrono_literals;

/// As many as one message may carry (SCM_MAX_FD).
constexpr std::size_t kMostPassed = 253;

// Whether the message went out, or the daemon's socket takes no descriptors.
bool passed(int error) { return error == 0 || error == EPERM; }

// A TCP connection with unsent bytes, whose last close() waits for them.
UniqueFd lingering_socket(UniqueFd& peer) {
    const UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(here);
    const int small = 4096;
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (::bind(server.get(), reinterpret_cast<sockaddr*>(&here), size) != 0 ||
        ::listen(server.get(), 1) != 0 ||
        ::getsockname(server.get(), reinterpret_cast<sockaddr*>(&here), &size) != 0 ||
        ::setsockopt(server.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) != 0) {
        return {};
    }
    ::connect(client.get(), reinterpret_cast<const sockaddr*>(&here), sizeof(here));
    peer = UniqueFd(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::this_thread::sleep_for(20ms);
    const std::vector<char> data(65536);
    while (::write(client.get(), data.data(), data.size()) > 0) {
    }
    const ::linger on{1, 10};
    ::fcntl(client.get(), F_SETFL, 0);
    ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &on, sizeof(on));
    return client;
}

bool pass_lingering(Attacker& a) {
    return a.in_child(6500ms, [&a] {
        UniqueFd peer;
        UniqueFd client = lingering_socket(peer);
        Connection connection(a.scene().socket);
        const int fd = client.get();
        const int error = connection.send_with(request_of(RequestKind::kStatus), {&fd, 1});
        if (error == EPERM) {  // ours is the last one: its close would wait
            ::shutdown(peer.get(), SHUT_RDWR);
            peer.reset();
            return true;
        }
        client.reset();  // now the daemon's is the last
        std::this_thread::sleep_for(6s);
        return error == 0 && peer;
    });
}

// Sockets that lie in each other's queues: their end is the kernel's garbage collection.
bool pass_recursive(Attacker& a) {
    std::array<UniqueFd, 2> inner;
    for (int depth = 0; depth < 24; ++depth) {
        std::array<int, 2> pair{};
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) !=
            0) {
            return false;
        }
        std::array<UniqueFd, 2> outer = {UniqueFd(pair[0]), UniqueFd(pair[1])};
        const std::array<int, 2> content = {inner[0].get(), inner[1].get()};
        if (depth != 0) {
            mempool::shm::send_message(outer[0].get(), request_of(RequestKind::kStatus), content[0],
                                       MSG_DONTWAIT);
            mempool::shm::send_message(outer[1].get(), request_of(RequestKind::kStatus), content[1],
                                       MSG_DONTWAIT);
            mempool::shm::send_message(outer[0].get(), request_of(RequestKind::kStatus),
                                       outer[1].get(), MSG_DONTWAIT);  // itself, too
        }
        inner = std::move(outer);
    }
    Connection connection(a.scene().socket);
    const std::array<int, 2> last = {inner[0].get(), inner[1].get()};
    const int error = connection.send_with(request_of(RequestKind::kStatus), last);
    a.hold(connection.release(), a.about(200ms));
    return passed(error);
}

bool pass_many(Attacker& a) {
    const UniqueFd one(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const std::vector<int> all(kMostPassed, one.get());
    Connection connection(a.scene().socket);
    bool done = false;
    for (int k = 0; k < 4; ++k) {
        done = passed(connection.send_with(request_of(RequestKind::kStatus), all)) || done;
    }
    a.hold(connection.release(), a.about(200ms));
    return done;
}

// One of each sort that may do something at its close or when it is polled.
bool pass_odd(Attacker& a) {
    std::array<int, 2> pipe{-1, -1};
    (void)!::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK);
    const std::array<UniqueFd, 6> odd = {
        UniqueFd(pipe[0]),
        UniqueFd(pipe[1]),
        UniqueFd(::eventfd(1, EFD_CLOEXEC)),
        UniqueFd(::epoll_create1(EPOLL_CLOEXEC)),
        UniqueFd(::memfd_create("siege", MFD_CLOEXEC)),
        UniqueFd(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)),
    };
    std::vector<int> all;
    for (const UniqueFd& fd : odd) {
        all.push_back(fd.get());
    }
    Connection connection(a.scene().socket);
    all.push_back(connection.fd());  // the connection itself
    const int error = connection.send_with(request_of(RequestKind::kList), all);
    a.hold(connection.release(), a.about(200ms));
    return passed(error);
}

constexpr std::array kDescriptorActs = {
    Act{"pass: lingering TCP", Who::kStranger, pass_lingering},
    Act{"pass: recursive sockets", Who::kStranger, pass_recursive},
    Act{"pass: 1,012 descriptors", Who::kStranger, pass_many},
    Act{"pass: odd descriptors", Who::kStranger, pass_odd},
};

}  // namespace

std::span<const Act> descriptor_acts() { return kDescriptorActs; }

}  // namespace mempool_test
