// What a client does that others look at: holds some slots until it is told to return them.
#pragma once

#include <cstddef>
#include <cstring>
#include <mempool/client.hpp>
#include <utility>
#include <vector>

#include "multiprocess/child.hpp"

namespace mempool_test {

constexpr std::size_t kHeld = 10;

/// Gets kHeld slots and says 'h'; after 'g' returns them, says 'd', and ends after 'e'. 0 if their
/// bytes were unchanged and all were taken back.
inline int hold_and_return(mempool::Client& client, const Line& line) {
    std::vector<mempool::Slot> slots;
    for (std::size_t k = 0; k < kHeld; ++k) {
        slots.push_back(client.get());
        if (!slots.back()) {
            return 2;
        }
        std::memset(slots.back().data(), static_cast<int>('a' + k), slots.back().size());
    }
    line.say('h');
    if (line.hear() != 'g') {
        return 3;
    }
    for (std::size_t k = 0; k < kHeld; ++k) {
        for (const std::byte byte : slots[k].span()) {
            if (byte != static_cast<std::byte>('a' + k)) {
                return 4;
            }
        }
        if (k % 2 == 0) {
            (void)slots[k].handle();  // the other way to return it
        }
        if (client.put(std::move(slots[k]))) {
            return 5;
        }
    }
    line.say('d');
    return line.hear() == 'e' ? 0 : 6;
}

}  // namespace mempool_test
