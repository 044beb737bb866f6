// The clients this process has, for threads that end.
//
// Used by ClientImpl and by the destructor of each thread's lanes. A thread that ends gives its
// lanes back, and a client stays until the last of its lanes was. A forked child finds it empty and
// unlocked: it lies in memory that the kernel wipes at fork.
#pragma once

#include <cstdint>
#include <mutex>

namespace mempool::detail {

class ClientImpl;
struct ThreadLane;

/// All attached clients of one process. Thread-safe; calls nothing of a client under its lock.
class Registry {
public:
    /// The one of this process, made at the first call; throws Error when memory is out.
    static Registry& instance();

    void add(ClientImpl& client) noexcept;
    void remove(ClientImpl& client) noexcept;
    /// Gives `lane`, which is the calling thread's, back to the client with that serial, unless
    /// that one is a parent process's.
    void retire(std::uint64_t serial, ThreadLane& lane) noexcept;
    /// Whether the client with that serial exists, and its program still has it.
    [[nodiscard]] bool is_in_use(std::uint64_t serial) noexcept;

private:
    [[nodiscard]] ClientImpl* find(std::uint64_t serial) const noexcept;

    std::mutex mutex_;  // all zeros when unlocked, as is the wiped one of a forked child
    ClientImpl* first_ = nullptr;
};

}  // namespace mempool::detail
