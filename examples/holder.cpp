// A client that takes slots, marks them as its own, and then does nothing: kill it, and see that
// the daemon takes them back.
//
// Usage: holder POOL SLOTS [TAG]
//
// Prints "ready" once it holds them. Each slot begins with the pid and carries TAG (default 1),
// which `mempoolctl slots` shows. It asks again where the pool has to grow first.
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <mempool/client.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::chrono::seconds kPatience{10};

std::uint32_t number(std::string_view text) {
    std::uint32_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || rest != end || value == 0) {
        throw std::invalid_argument("'" + std::string(text) + "' is not a number above zero");
    }
    return value;
}

void hold(const char* pool, std::uint32_t count, std::uint32_t tag) {
    auto client = mempool::Client::attach(pool);
    const pid_t pid = ::getpid();
    std::vector<mempool::Slot> slots(count);
    for (mempool::Slot& slot : slots) {
        std::error_code error;
        slot = client.get_for(kPatience, error);
        if (!slot) {
            throw std::system_error(error, "cannot get " + std::to_string(count) + " slots");
        }
        std::memcpy(slot.data(), &pid, sizeof pid);
        slot.set_tag(tag);
    }
    std::cout << "ready" << std::endl;
    for (;;) {
        ::pause();
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3 || argc > 4) {
        std::cerr << "usage: holder POOL SLOTS [TAG]\n";
        return 2;
    }
    try {
        hold(argv[1], number(argv[2]), argc == 4 ? number(argv[3]) : 1);
    } catch (const std::exception& error) {
        std::cerr << "holder: " << error.what() << '\n';
        return 1;
    }
}
