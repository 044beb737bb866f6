// What a peer must be able to do, and the figures all peers share.
//
// A peer is a class, the pool, and its nested User, the pool as one party uses it. The pool is made
// before the parties start; each party then makes its own User, in its own process or thread.
//
// - `Pool(Size)` makes the pool; throws NotInstalled where this peer is not there.
// - `Pool::kKind` says whether its parties can be processes.
// - `User(Pool&, int index)` is party `index`.
// - `User::Item` is a slot in this party's hands: movable, default-constructible.
// - `Item get()`; `data(item)` is nullptr if the pool is exhausted.
// - `void put(Item&&)`
// - `static std::byte* data(item)`
// - `std::uint64_t where(item)` is the slot's place, the same number for all parties.
// - `std::uint64_t send(Item&)` is a token by which another party can return the slot.
// - `void put_sent(token)`
//
// And where the peer can do several at once (kBulk):
//
// - `bool get_bulk(span<Item>)`, all or nothing
// - `void put_bulk(span<Item>)`
// - `void put_sent_bulk(span<const std::uint64_t>)`
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "harness/parties.hpp"

namespace bench {

/// A pool's measures.
struct Size {
    std::size_t slot_bytes = 64;
    std::size_t slots = 4096;
};

/// Slots in one burst, one bulk call, one batch.
constexpr std::size_t kBatch = 32;

/// Thrown by a pool whose library isn't on this machine.
struct NotInstalled : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <typename User>
concept Bulk = requires(User& user, std::span<typename User::Item> items,
                        std::span<const std::uint64_t> tokens) {
    user.get_bulk(items);
    user.put_bulk(items);
    user.put_sent_bulk(tokens);
};

/// For the peers whose item is a bare address.
struct AddressItem {
    using Item = std::byte*;
    static std::byte* data(Item item) { return item; }
    static std::uint64_t where(Item item) { return reinterpret_cast<std::uintptr_t>(item); }
};

}  // namespace bench
