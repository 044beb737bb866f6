// A pool's storage at once, where the daemon goes step by step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/storage/pool_start.hpp"

namespace mempoold {  // where their arguments are found

inline void complete(Storage& storage, NewSegment& made) {
    while (!made.step()) {
    }
    storage.announce(made);
}

inline void add_segment(Storage& storage, std::uint32_t slots, std::uint64_t now) {
    complete(storage, *storage.begin_segment(slots, now));
}

/// A new pool.
inline std::unique_ptr<Storage> create_storage(const PoolConfig& config, std::uint64_t now,
                                               std::shared_ptr<Backing> backing = nullptr) {
    NewPool made = Storage::begin(config, now, std::move(backing));
    complete(*made.storage, *made.first);
    made.first.reset();
    return std::move(made.storage);
}

inline void complete(PoolStart& start) {
    do {
        while (!start.step()) {
        }
    } while (start.proceed());
}

/// Says that `count` clients use a pool of the former layout.
inline PoolStart::FormerClients users(std::size_t count) {
    return [count](const UniqueFd&) {
        return [count] { return std::optional(std::vector<FormerClient>(count)); };
    };
}

/// What the daemon does at its start.
inline std::unique_ptr<Storage> start_storage(const PoolConfig& config, std::uint64_t now,
                                              FdStore* store = nullptr,
                                              RuntimeDirectory* runtime = nullptr,
                                              const PoolStart::FormerClients& users = nullptr) {
    PoolStart start(config, now, store, runtime, users);
    complete(start);
    return start.finish();
}

}  // namespace mempoold
