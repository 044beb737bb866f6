// The control socket on the daemon's side: a session gets any messages, whole or not.
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "daemon/control/session.hpp"
#include "fuzz/input.hpp"
#include "mempool/shm/wire.hpp"
#include "support/storage.hpp"

namespace {

namespace shm = mempool::shm;
using mempool_fuzz::Input;

// A daemon without sockets, for all inputs of this process.
struct Daemon {
    Daemon() {
        const char* const tag = std::getenv("MEMPOOL_TEST_TAG");  // see tests/dev_shm.sh
        auto config =
            mempoold::parse_pool("fuzz-" + std::string(tag != nullptr ? tag : "by-hand") + "-" +
                                     std::to_string(::getpid()) + ":64x64,max_slots=256",
                                 "");
        name = config.name;
        auto storage = mempoold::create_storage(config, mempoold::epoch_now());
        pool =
            std::make_shared<mempoold::ServedPool>(std::move(config), std::move(storage), worker);
        pool->begin_service(true);
        service.pools.emplace(name, pool);
    }
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon() { pool->storage().remove_objects(); }

    std::string name;
    boost::asio::io_context io;
    mempoold::FdStore store;
    mempoold::Worker worker{io};
    mempoold::Service service{io, worker, store};
    std::shared_ptr<mempoold::ServedPool> pool;
};

void send(int socket, Input& input, const std::string& pool) {
    const auto choice = input.take<std::uint8_t>();
    if (choice % 8 == 7) {
        const std::string bytes = input.text(input.take<std::uint8_t>());
        (void)::send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        return;
    }
    shm::Request request;
    request.kind = static_cast<shm::RequestKind>(input.take<std::uint8_t>() % 14);
    request.values[0] = choice % 8 < 4 ? input.take<std::uint8_t>() : input.take<std::uint64_t>();
    shm::copy_text(request.pool, (choice & 8U) == 0 ? pool : input.text(80));
    if ((choice & 0xf0U) == 0xf0U) {
        const std::size_t at = input.take<std::uint8_t>() % sizeof(request);
        reinterpret_cast<std::uint8_t*>(&request)[at] = input.take<std::uint8_t>();
    }
    (void)shm::send_message(socket, request, (choice & 0x70U) == 0x70U ? socket : -1, MSG_DONTWAIT);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Daemon daemon;
    Input input(data, size);
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        std::abort();
    }
    shm::UniqueFd mine(ends[0]);
    shm::UniqueFd theirs(ends[1]);
    const mempoold::Peer peer = mempoold::read_peer(theirs.get());
    const auto session = std::make_shared<mempoold::Session>(
        daemon.io, daemon.service, std::move(theirs), peer,
        [](const std::shared_ptr<mempoold::Session>& closed) { closed->take_socket(); });
    session->start();
    for (int k = 0; k < 20 && !input.empty(); ++k) {
        send(mine.get(), input, daemon.name);
        daemon.io.restart();
        daemon.io.poll();
        shm::Reply reply;
        shm::UniqueFd passed;
        (void)shm::receive_message(mine.get(), reply, passed, MSG_DONTWAIT);
    }
    mine.reset();
    daemon.io.restart();
    daemon.io.poll();
    session->close();
    // Clients without a connection whose process lives are kept: end them, as their death would.
    for (std::uint32_t id = 1; id < daemon.pool->clients().size(); ++id) {
        if (const auto client = daemon.service.supervisor.find(*daemon.pool, id)) {
            client->process_ended();
        }
    }
    daemon.io.restart();
    daemon.io.poll();
    return 0;
}
