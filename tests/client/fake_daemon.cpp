#include "client/fake_daemon.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace mempool_test {

using namespace mempool::shm;

namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::uint64_t kPoolKey = 0x6b6579;

void check(bool fine, const char* what) {
    if (!fine) {
        throw std::system_error(errno, std::generic_category(), what);
    }
}

void refuse(Answer& answer, int error, std::string_view text) {
    answer.reply.error = error;
    copy_text(answer.reply.text, text);
}

}  // namespace

FakeDaemon::FakeDaemon(std::vector<FakePool*> pools, Twist twist)
    : pools_(std::move(pools)), twist_(std::move(twist)) {
    start();
}

FakeDaemon::~FakeDaemon() { stop(); }

void FakeDaemon::start() {
    int ends[2] = {};
    check(::pipe2(ends, O_CLOEXEC) == 0, "pipe2");
    stop_pipe_[0].reset(ends[0]);
    stop_pipe_[1].reset(ends[1]);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    copy_text(address.sun_path, socket_path());
    listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    check(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0,
          "bind");
    check(::listen(listener_.get(), 16) == 0, "listen");
    thread_ = std::thread([this] { serve(); });
}

void FakeDaemon::stop() {
    if (thread_.joinable()) {
        stop_pipe_[1].reset();
        thread_.join();
        listener_.reset();
        ::unlink(socket_path().c_str());
    }
}

void FakeDaemon::write_index() const {
    PoolIndex index;
    for (const FakePool* pool : pools_) {
        index.pools[pool->name()] = pool->indexed();
    }
    const std::string runtime = socket_path() + ".d";
    std::filesystem::create_directory(runtime);
    std::ofstream(runtime + "/pools") << format_index(index);
}

mempool::AttachOptions FakeDaemon::options() const {
    return {.socket = socket_path(), .timeout = std::chrono::seconds{30}};
}

std::uint32_t FakeDaemon::seen(RequestKind kind) const {
    return seen_[static_cast<std::size_t>(kind) % std::size(seen_)].load();
}

void FakeDaemon::wait_for(RequestKind kind, std::uint32_t count) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (seen(kind) < count) {
        if (std::chrono::steady_clock::now() > deadline) {
            throw std::runtime_error("the request the test waits for never came");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
}

void FakeDaemon::serve() {
    std::vector<Peer> peers;
    for (;;) {
        std::vector<pollfd> polled{{stop_pipe_[0].get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
        for (const Peer& peer : peers) {
            polled.push_back({peer.socket.get(), POLLIN, 0});
        }
        ::poll(polled.data(), polled.size(), -1);
        if (polled[0].revents != 0) {
            return;
        }
        for (std::size_t k = peers.size(); k-- > 0;) {
            if (polled[k + 2].revents != 0 && !handle(peers[k])) {
                peers.erase(peers.begin() + static_cast<std::ptrdiff_t>(k));
            }
        }
        if (polled[1].revents != 0) {
            UniqueFd socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
            if (socket) {
                peers.push_back({.socket = std::move(socket)});
            }
        }
    }
}

bool FakeDaemon::handle(Peer& peer) {
    Request request;
    UniqueFd unwanted;
    if (receive_message(peer.socket.get(), request, unwanted, MSG_DONTWAIT) != 0) {
        return false;
    }
    Answer reply;
    reply.reply.kind = request.kind;
    answer(peer, request, reply);
    if (twist_) {
        twist_(request, reply);
    }
    // Counted when all it changes has been changed.
    seen_[static_cast<std::size_t>(request.kind) % std::size(seen_)].fetch_add(1);
    if (reply.close) {
        return false;
    }
    if (reply.bytes != sizeof(Reply)) {
        ::send(peer.socket.get(), &reply.reply, reply.bytes, MSG_NOSIGNAL);
    } else if (!reply.data.empty()) {
        send_data(peer.socket.get(), reply.reply, reply.data.data(), reply.data.size());
    } else if (!reply.silent) {
        send_message(peer.socket.get(), reply.reply, reply.fd);
    }
    return true;
}

FakePool* FakeDaemon::find(std::string_view name) const {
    for (FakePool* pool : pools_) {
        if (pool->name() == name) {
            return pool;
        }
    }
    return nullptr;
}

void FakeDaemon::attach(Peer& peer, Answer& answer) {
    const Pool& pool = peer.pool->pool();
    const std::uint32_t count = pool.geometry().shape.client_count;
    for (std::uint32_t c = 1; c < count; ++c) {
        ClientRecord& record = pool.client(ClientId{c});
        if (record.state.load() == ClientState::kFree) {
            record.pid = static_cast<std::uint32_t>(::getpid());
            copy_text(record.command, "fake");
            record.state.store(ClientState::kActive);
            peer.token = token_of(ClientId{c});
            payload::put(answer.reply, payload::Attachment{.client = c,
                                                           .key = kPoolKey,
                                                           .token = peer.token,
                                                           .epoch = record.epoch.load()});
            answer.fd = peer.pool->segment(0);
            return;
        }
    }
    refuse(answer, EUSERS, "the fake daemon's pool has no place for another client");
}

void FakeDaemon::resume(Peer& peer, const Request& request, Answer& answer) {
    const auto shown = payload::of<payload::Attachment>(request);
    const Pool& pool = peer.pool->pool();
    const bool known = shown.client != 0 && shown.client < pool.geometry().shape.client_count;
    const ClientId id{static_cast<std::uint32_t>(shown.client)};
    if (!known || shown.key != kPoolKey || shown.token != token_of(id) ||
        shown.epoch != pool.client(id).epoch.load()) {
        refuse(answer, ESTALE, "the attachment was ended");
        return;
    }
    peer.token = shown.token;
    payload::put(answer.reply, shown);
}

void FakeDaemon::answer(Peer& peer, const Request& request, Answer& answer) {
    FakePool* named = find(text_of(request.pool));
    switch (request.kind) {
        case RequestKind::kAttach:
        case RequestKind::kResume:
        case RequestKind::kInspect:
        case RequestKind::kGrow:
        case RequestKind::kReclaim:
            if (named == nullptr) {
                refuse(answer, ENOENT, "the fake daemon has no such pool");
                return;
            }
            peer.pool = named;
            if (request.kind == RequestKind::kAttach) {
                attach(peer, answer);
            } else if (request.kind == RequestKind::kResume) {
                resume(peer, request, answer);
            } else if (request.kind == RequestKind::kInspect) {
                payload::put(
                    answer.reply,
                    payload::Inspected{.key = 1,
                                       .bytes = std::min(named->file_bytes(),
                                                         named->pool().geometry().slots_offset)});
            } else if (request.kind == RequestKind::kReclaim) {
                const auto age = payload::of<payload::Reclaim>(request).detached_age;
                payload::put(
                    answer.reply,
                    payload::Reclaimed{
                        .slots = 5, .clients = 2, .detached = age == ~std::uint64_t{0} ? 0U : 7U});
            } else if (request.kind == RequestKind::kGrow) {
                payload::put(answer.reply, payload::of<payload::Grow>(request));
            }
            return;
        case RequestKind::kSegment:
            answer.fd = peer.pool == nullptr ? -1
                                             : peer.pool->segment(static_cast<std::uint32_t>(
                                                   payload::of<payload::Segment>(request).number));
            if (answer.fd < 0) {
                refuse(answer, ENOENT, "no such segment");
            }
            return;
        case RequestKind::kList:
            payload::put(answer.reply, payload::ListSize{.pools = pools_.size()});
            if (const auto at = payload::of<payload::ListAt>(request).position;
                at < pools_.size()) {
                copy_text(answer.reply.text, pools_[at]->name());
            }
            return;
        case RequestKind::kStatus:
            payload::put(answer.reply, payload::Status{.pid = 4711});
            copy_text(answer.reply.text, "9.8.7");
            return;
        case RequestKind::kRepair:  // of nothing
            return;
        case RequestKind::kRead: {
            const auto wanted = payload::of<payload::Read>(request);
            answer.data.resize(wanted.bytes);
            if (peer.pool == nullptr ||
                ::pread(peer.pool->segment(0), answer.data.data(), wanted.bytes,
                        static_cast<off_t>(wanted.offset)) != static_cast<ssize_t>(wanted.bytes)) {
                answer.data.clear();
                refuse(answer, EINVAL, "no such bytes");
            }
            return;
        }
        case RequestKind::kEnd:
            refuse(answer, EOPNOTSUPP, "the fake daemon can't do that");
            return;
        case RequestKind::kBye:
            if (peer.token != 0 && payload::of<payload::Bye>(request).token == peer.token) {
                proved_goodbyes_.fetch_add(1);
            }
            answer.silent = true;
            return;
        case RequestKind::kWantMore:
            answer.silent = true;
            return;
    }
}

}  // namespace mempool_test
