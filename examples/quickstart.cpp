// Two processes, one slot: the parent writes into it, the child reads it in place.
//
// Usage: quickstart POOL, with mempoold running, e.g. mempoold --pool frames:64KiBx1024
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <mempool/client.hpp>
#include <stdexcept>

namespace {

void consume(const char* pool, int from) {
    auto client = mempool::Client::attach(pool);
    std::uint64_t handle = 0;
    if (::read(from, &handle, sizeof handle) != sizeof handle) {
        return;  // the producer failed, and said why
    }
    if (const mempool::Slot slot = client.adopt(mempool::Handle{handle})) {
        std::printf("received: %s\n", reinterpret_cast<const char*>(slot.data()));
    }
}  // here the slot returns to the pool

void produce(const char* pool, int to) {
    auto client = mempool::Client::attach(pool);
    mempool::Slot slot = client.get_for(std::chrono::seconds{1});
    if (!slot) {
        throw std::runtime_error("the pool is exhausted");
    }
    std::snprintf(reinterpret_cast<char*>(slot.data()), slot.size(), "hello from %d", ::getpid());
    const std::uint64_t handle = slot.detach().value();  // from here on the child's
    if (::write(to, &handle, sizeof handle) != sizeof handle) {
        throw std::runtime_error("cannot send the handle");
    }
}

}  // namespace

int main(int argc, char** argv) {
    int ends[2];
    if (argc != 2 || ::pipe(ends) != 0) {
        std::fputs("usage: quickstart POOL\n", stderr);
        return 2;
    }
    // Fork first: an attachment belongs to the process that made it.
    const pid_t child = ::fork();
    if (child < 0) {
        std::perror("quickstart: fork");
        return 1;
    }
    try {
        if (child == 0) {
            ::close(ends[1]);
            consume(argv[1], ends[0]);
            return 0;
        }
        ::close(ends[0]);
        produce(argv[1], ends[1]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "quickstart: %s\n", error.what());
        return 1;
    }
    ::close(ends[1]);
    ::waitpid(child, nullptr, 0);
    return 0;
}
