// A daemon in a thread of the test: speaks wire.hpp, and says what the test wants.
//
// Used where the real one can't be brought to do it: to be silent, to lie, to pass garbage. Serves
// FakePools; its books are the pools' client records, and it reclaims nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/fake_pool.hpp"
#include "mempool/client.hpp"
#include "mempool/shm/wire.hpp"
#include "mempool/shm/words/unique_fd.hpp"
#include "support/daemon_process.hpp"

namespace mempool_test {

/// One answer: what is sent, and the descriptor that goes with it.
struct Answer {
    mempool::shm::Reply reply;
    int fd = -1;
    bool silent = false;                              ///< send nothing
    bool close = false;                               ///< close the connection instead
    std::size_t bytes = sizeof(mempool::shm::Reply);  ///< send that many of the reply
    std::vector<std::byte> data{};                    ///< send it after the reply
};

/// Listens from construction to destruction; one thread, which alone touches the sockets.
class FakeDaemon {
public:
    /// May change the answer made for a request. Called on the daemon's thread.
    using Twist = std::function<void(const mempool::shm::Request&, Answer&)>;

    explicit FakeDaemon(std::vector<FakePool*> pools = {}, Twist twist = {});
    FakeDaemon(const FakeDaemon&) = delete;
    FakeDaemon& operator=(const FakeDaemon&) = delete;
    ~FakeDaemon();

    /// Stops listening and closes all connections, as a daemon that dies.
    void stop();
    /// Listens again at the same place.
    void start();
    /// Writes the index of its pools into its runtime directory.
    void write_index() const;

    [[nodiscard]] mempool::AttachOptions options() const;
    [[nodiscard]] std::string socket_path() const { return directory_.path() + "/fake.sock"; }
    /// Requests of that kind so far.
    [[nodiscard]] std::uint32_t seen(mempool::shm::RequestKind kind) const;
    /// What client `c` of any of its pools gets as the proof of its attachment.
    [[nodiscard]] static std::uint64_t token_of(mempool::shm::ClientId c) {
        return 0x746f6b656e00 + raw(c);
    }
    /// Goodbyes so far that came with the token of the connection's own attachment.
    [[nodiscard]] std::uint32_t proved_goodbyes() const { return proved_goodbyes_.load(); }
    /// Waits until that many requests of that kind have come.
    void wait_for(mempool::shm::RequestKind kind, std::uint32_t count = 1) const;

private:
    struct Peer {
        mempool::shm::UniqueFd socket;
        FakePool* pool = nullptr;
        std::uint64_t token = 0;  // of the attachment, if there is one
    };

    void serve();
    bool handle(Peer& peer);
    void answer(Peer& peer, const mempool::shm::Request& request, Answer& answer);
    static void attach(Peer& peer, Answer& answer);
    static void resume(Peer& peer, const mempool::shm::Request& request, Answer& answer);
    [[nodiscard]] FakePool* find(std::string_view name) const;

    TemporaryDirectory directory_;
    std::vector<FakePool*> pools_;
    Twist twist_;
    mempool::shm::UniqueFd listener_;
    mempool::shm::UniqueFd stop_pipe_[2];
    std::atomic<std::uint32_t> seen_[16] = {};
    std::atomic<std::uint32_t> proved_goodbyes_{0};
    std::thread thread_;
};

}  // namespace mempool_test
