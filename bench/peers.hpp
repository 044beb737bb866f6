// The allocators that pool_bench compares, behind one interface.
//
// Each is opened in every process that uses it. A token is what one process must tell another so
// that it can return the slot: a handle, an offset.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "mempool/client.hpp"

namespace bench {

constexpr std::size_t kSlotBytes = 64;
constexpr std::size_t kSlots = 4096;

/// libmempool: a daemon serves the pool; each process attaches.
class Mempool {
public:
    explicit Mempool(const std::string& socket, const std::string& pool)
        : client_(mempool::Client::attach(pool, {.socket = socket})) {}
    using Item = mempool::Slot;
    [[nodiscard]] Item get() { return client_.get(); }
    static void* data(const Item& item) { return item.data(); }
    void put(Item&& item) { client_.put(std::move(item)); }
    static std::uint64_t send(Item& item) { return item.release().value(); }
    void put_sent(std::uint64_t token) { client_.put(mempool::Handle(token)); }

private:
    mempool::Client client_;
};

/// The same, but each slot is returned by its handle: by compare-and-swap, as one that others know.
class MempoolByHandle : public Mempool {
public:
    using Mempool::Mempool;
    void put(Item&& item) { put_sent(send(item)); }
};

/// glibc malloc and free; cannot hand a block to another process.
class Malloc {
public:
    using Item = void*;
    [[nodiscard]] Item get();
    static void* data(const Item& item) { return item; }
    void put(Item&& item);
};

/// boost::interprocess::managed_shared_memory, allocate and deallocate.
class Managed {
public:
    using Item = void*;
    explicit Managed(const std::string& name);
    Managed(const Managed&) = delete;
    Managed& operator=(const Managed&) = delete;
    ~Managed();
    [[nodiscard]] Item get();
    static void* data(const Item& item) { return item; }
    void put(Item&& item);
    std::uint64_t send(Item& item);
    void put_sent(std::uint64_t token);
    static void create(const std::string& name);
    static void remove(const std::string& name);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// A ring of free offsets under a boost::interprocess::interprocess_mutex.
class MutexRing {
public:
    using Item = void*;
    struct Shared;
    explicit MutexRing(Shared* shared) : shared_(shared) {}
    [[nodiscard]] Item get();
    static void* data(const Item& item) { return item; }
    void put(Item&& item);
    std::uint64_t send(Item& item);
    void put_sent(std::uint64_t token);
    [[nodiscard]] static Shared* create();

private:
    Shared* shared_;
};

}  // namespace bench
