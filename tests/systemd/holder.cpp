// A client for systemd_test.sh: holds ten stamped slots of a pool until SIGUSR1, then proves that
// nobody touched them and returns them.
//
//   systemd_holder POOL     prints "ready" when it holds them, "ok" when all are back
#include <csignal>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <mempool/client.hpp>
#include <utility>
#include <vector>

namespace {

constexpr std::uint64_t kSlots = 10;

std::uint64_t stamp(std::uint64_t number) { return 0x5eed'0000'0000'0000ULL + number; }

int hold(const char* pool) {
    // Blocked before the first slot is taken, so that sigwait below cannot miss it.
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, nullptr);

    auto client = mempool::Client::attach(pool);
    std::vector<mempool::Slot> slots;
    for (std::uint64_t i = 0; i < kSlots; ++i) {
        auto slot = client.get();
        if (!slot) {
            std::cerr << "exhausted after " << i << '\n';
            return 1;
        }
        const std::uint64_t value = stamp(i);
        std::memcpy(slot.data(), &value, sizeof value);
        slots.push_back(std::move(slot));
    }
    std::cout << "ready" << std::endl;

    int signal = 0;
    sigwait(&wanted, &signal);
    for (std::uint64_t i = 0; i < kSlots; ++i) {
        std::uint64_t value = 0;
        std::memcpy(&value, slots[i].data(), sizeof value);
        if (value != stamp(i)) {
            std::cerr << "slot " << i << " was changed\n";
            return 1;
        }
    }
    slots.clear();
    std::cout << "ok" << std::endl;
    // Stays attached until told again: what it returned must be seen as free without its death.
    sigwait(&wanted, &signal);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: systemd_holder POOL\n";
        return 2;
    }
    try {
        return hold(argv[1]);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
