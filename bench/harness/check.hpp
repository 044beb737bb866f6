// Whether a peer is what it claims to be. Run once before a peer is measured.
#pragma once

#include <algorithm>
#include <vector>

#include "harness/cases.hpp"

namespace bench {

/// Throws unless no two of the places are less than a slot apart.
inline void must_be_distinct(std::vector<std::uint64_t> places, std::size_t slot_bytes) {
    std::sort(places.begin(), places.end());
    for (std::size_t k = 1; k < places.size(); ++k) {
        if (places[k] - places[k - 1] < slot_bytes) {
            fail("two holders have the same memory");
        }
    }
}

template <typename User>
void get_all(User& user, std::vector<typename User::Item>& items, bool bulk) {
    if constexpr (Bulk<User>) {
        if (bulk) {
            for (std::size_t k = 0; k < items.size(); k += kBatch) {
                if (!user.get_bulk({items.data() + k, kBatch})) {
                    fail("the pool is exhausted");
                }
            }
            return;
        }
    }
    for (auto& item : items) {
        item = must_get(user);
    }
}

template <typename User>
void put_all(User& user, std::vector<typename User::Item>& items, bool bulk) {
    if constexpr (Bulk<User>) {
        if (bulk) {
            for (std::size_t k = 0; k < items.size(); k += kBatch) {
                user.put_bulk({items.data() + k, kBatch});
            }
            return;
        }
    }
    for (auto& item : items) {
        user.put(std::move(item));
    }
}

/// Two parties hold a quarter of the pool each, several times: all in different places, each as its
/// holder wrote it. More slots are got in all than the pool has, so they are really returned.
template <typename Pool>
void check_sharing(Pool& pool, const Size& size) {
    const std::size_t count = size.slots / 4;
    auto* places = static_cast<std::uint64_t*>(shared_memory(2 * count * sizeof(std::uint64_t)));
    (void)run_parties(Pool::kKind, 2, [&](int index, Meeting& meeting) {
        using User = typename Pool::User;
        User user(pool, index);
        for (int round = 0; round < 6; ++round) {
            std::vector<typename User::Item> items(count);
            get_all(user, items, round % 2 == 1);
            const auto mark = static_cast<std::uint64_t>(index + 1) << 32U;
            for (std::size_t k = 0; k < count; ++k) {
                places[static_cast<std::size_t>(index) * count + k] = User::where(items[k]);
                fill(User::data(items[k]), size.slot_bytes, mark + k);
            }
            meeting.meet();
            for (std::size_t k = 0; k < count; ++k) {
                if (!is_filled(User::data(items[k]), size.slot_bytes, mark + k)) {
                    fail("a slot's bytes changed under its holder");
                }
            }
            must_be_distinct({places, places + 2 * count}, size.slot_bytes);
            meeting.meet();
            put_all(user, items, round % 2 == 1);
            meeting.meet();
        }
        return 0.0;
    });
}

/// What one party sends and the other returns comes back: ten times the pool's slots cross over.
template <std::size_t Count, typename Pool>
void check_hand_over(Pool& pool, const Size& size) {
    auto* ring = new (shared_memory(sizeof(TokenRing))) TokenRing{};
    (void)run_parties(Pool::kKind, 2, [&](int index, Meeting& meeting) {
        typename Pool::User user(pool, index);
        meeting.meet();
        if (index == 0) {
            for (std::size_t sent = 0; sent < 10 * size.slots; sent += kChunk) {
                send_slots<Count>(user, *ring, Clock::duration{1});
            }
        } else {
            for (std::size_t sent = 0; sent < 10 * size.slots; sent += kChunk) {
                (void)return_slots<Count>(user, *ring);
            }
        }
        meeting.meet();
        return 0.0;
    });
}

template <typename Pool>
void check(const Size& size) {
    Pool pool(size);
    check_sharing(pool, size);
    check_hand_over<1>(pool, size);
    check_hand_over<kBatch>(pool, size);
}

}  // namespace bench
