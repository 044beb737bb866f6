// A client for systemd_test.sh: holds ten stamped slots of a pool until it is told to prove that
// nobody touched them.
//
//   systemd_holder POOL       prints "ready" when it holds them; at SIGUSR1 proves, returns them
//   and
//                             prints "ok"; at the next it ends
//   systemd_holder POOL work  meanwhile gets, stamps, checks and returns others without a pause; at
//                             each SIGUSR1 proves, prints "ok ROUNDS" and goes on with its ten
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <exception>
#include <iostream>
#include <mempool/client.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

constexpr std::uint64_t kSlots = 10;
constexpr std::uint64_t kSlotsARound = 8;

std::uint64_t stamp(std::uint64_t number) { return 0x5eed'0000'0000'0000ULL + number; }

std::vector<mempool::Slot> get_stamped(mempool::Client& client, std::uint64_t count,
                                       std::uint64_t first) {
    std::vector<mempool::Slot> slots;
    for (std::uint64_t i = 0; i < count; ++i) {
        auto slot = client.get();
        if (!slot) {
            throw std::runtime_error("exhausted after " + std::to_string(i));
        }
        const std::uint64_t value = stamp(first + i);
        std::memcpy(slot.data(), &value, sizeof value);
        slots.push_back(std::move(slot));
    }
    return slots;
}

void prove(const std::vector<mempool::Slot>& slots, std::uint64_t first) {
    for (std::uint64_t i = 0; i < slots.size(); ++i) {
        std::uint64_t value = 0;
        std::memcpy(&value, slots[i].data(), sizeof value);
        if (value != stamp(first + i)) {
            throw std::runtime_error("slot " + std::to_string(i) + " was changed");
        }
    }
}

void work(mempool::Client& client, const std::vector<mempool::Slot>& kept, const sigset_t& told) {
    for (std::uint64_t round = 1;; ++round) {
        auto slots = get_stamped(client, kSlotsARound, round * 1000);
        prove(slots, round * 1000);
        for (auto& slot : slots) {
            if (client.put(std::move(slot))) {
                throw std::runtime_error("a put was refused");
            }
        }
        const timespec no_time{};
        if (sigtimedwait(&told, nullptr, &no_time) == SIGUSR1) {
            prove(kept, 0);
            std::cout << "ok " << round << std::endl;
        }
    }
}

int hold(const char* pool, bool working) {
    // Blocked before the first slot is taken, so that sigwait below cannot miss it.
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, nullptr);

    auto client = mempool::Client::attach(pool);
    auto slots = get_stamped(client, kSlots, 0);
    std::cout << "ready" << std::endl;
    if (working) {
        work(client, slots, wanted);
    }

    int signal = 0;
    sigwait(&wanted, &signal);
    prove(slots, 0);
    slots.clear();
    std::cout << "ok" << std::endl;
    // Stays attached until told again: what it returned must be seen as free without its death.
    sigwait(&wanted, &signal);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const bool working = argc == 3 && std::string_view(argv[2]) == "work";
    if (argc != 2 && !working) {
        std::cerr << "usage: systemd_holder POOL [work]\n";
        return 2;
    }
    try {
        return hold(argv[1], working);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
