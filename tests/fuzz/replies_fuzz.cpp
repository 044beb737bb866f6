// The control socket on the client's side: a daemon that answers anything.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "fuzz/input.hpp"
#include "mempool/client.hpp"
#include "mempool/inspect.hpp"
#include "mempool/shm/wire.hpp"

namespace {

namespace shm = mempool::shm;
using mempool_fuzz::Input;

// A socket of its own; removed at the end.
struct Listener {
    Listener() {
        address.sun_family = AF_UNIX;
        shm::copy_text(address.sun_path, "/tmp/mempool-fuzz-" + std::to_string(::getpid()));
        socket.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
                0 ||
            ::listen(socket.get(), 8) != 0) {
            std::abort();
        }
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener() { ::unlink(address.sun_path); }

    sockaddr_un address{};
    shm::UniqueFd socket;
};

void answer(int socket, const shm::Request& request, Input& input) {
    const auto choice = input.take<std::uint8_t>();
    if (choice % 8 == 7) {
        const std::string bytes = input.text(input.take<std::uint8_t>());
        (void)::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        return;
    }
    shm::Reply reply;
    reply.kind =
        choice % 8 < 5 ? request.kind : static_cast<shm::RequestKind>(input.take<std::uint8_t>());
    reply.error = choice % 8 == 4 ? input.take<std::int32_t>() : 0;
    reply.values[0] = (choice & 8U) != 0 ? input.take<std::uint64_t>() : input.take<std::uint8_t>();
    const std::string text = input.text(input.take<std::uint8_t>());
    text.copy(reply.text, sizeof(reply.text));
    shm::UniqueFd object;
    if ((choice & 0x30U) == 0x30U) {  // what is said to be a pool
        object.reset(::memfd_create("fuzz", MFD_CLOEXEC));
        const std::string bytes = input.text(4096);
        (void)!::write(object.get(), bytes.data(), bytes.size());
        (void)!::ftruncate(object.get(), input.take<std::uint16_t>() * 64);
    }
    (void)shm::send_message(socket, reply, object.get());
}

// Answers one connection until the input is used up.
void serve(int listener, Input input) {
    shm::UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    shm::Request request;
    shm::UniqueFd unwanted;
    while (!input.empty() && shm::receive_message(socket.get(), request, unwanted) == 0) {
        answer(socket.get(), request, input);
    }
}

template <typename Action>
void attempt(Action&& action) {
    try {
        action();
    } catch (const mempool::Error&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    static Listener listener;
    const mempool::AttachOptions options{.socket = listener.address.sun_path,
                                         .timeout = std::chrono::milliseconds{20}};
    Input input(data, size);
    const auto choice = input.take<std::uint8_t>();
    std::thread daemon([&] { serve(listener.socket.get(), input); });
    switch (choice % 4) {
        case 0:
            (void)mempool::find_pools(options);
            break;
        case 1:
            attempt([&] { mempool::Admin::connect(options).grow("fuzz", 3); });
            break;
        case 2:
            attempt([&] { (void)mempool::Inspector::open("fuzz-absent", options).status(); });
            break;
        default:
            attempt([&] { (void)mempool::Client::attach("fuzz-absent", options).get(); });
    }
    daemon.join();
    return 0;
}
