// Boost.Interprocess: a managed segment's allocate and deallocate, its cached_node_allocator, and a
// ring of offsets under its mutex.
#include <unistd.h>

#include <boost/interprocess/allocators/cached_node_allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <new>
#include <string>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

namespace ipc = boost::interprocess;

/// A managed segment without a name: who forks inherits the mapping. Room for the slots, a fifth
/// more for the allocator's headers and alignment, and its own tables.
ipc::managed_shared_memory make_segment(const Size& size, std::size_t per_slot) {
    const std::string name = "mempool-bench." + std::to_string(::getpid());
    ipc::managed_shared_memory segment(ipc::create_only, name.c_str(),
                                       size.slots * (size.slot_bytes + per_slot) * 6 / 5 + 65536);
    ipc::shared_memory_object::remove(name.c_str());
    return segment;
}

/// Tokens are offsets in the segment.
class SegmentUser : public AddressItem {
public:
    explicit SegmentUser(ipc::managed_shared_memory& segment) : segment_(&segment) {}
    [[nodiscard]] std::uint64_t send(Item item) const {
        return static_cast<std::uint64_t>(segment_->get_handle_from_address(item));
    }

protected:
    [[nodiscard]] Item address(std::uint64_t token) const {
        using Handle = ipc::managed_shared_memory::handle_t;
        return static_cast<Item>(segment_->get_address_from_handle(static_cast<Handle>(token)));
    }
    [[nodiscard]] ipc::managed_shared_memory& segment() const { return *segment_; }

private:
    ipc::managed_shared_memory* segment_;
};

/// Moves a chain of blocks into `items`; false if there are fewer.
template <typename Chain>
bool take_all(Chain& chain, std::span<std::byte*> items) {
    if (chain.size() != items.size()) {
        return false;
    }
    for (std::byte*& item : items) {
        item = reinterpret_cast<std::byte*>(boost::movelib::to_raw_pointer(chain.pop_front()));
    }
    return true;
}

class Managed {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit Managed(const Size& size)
        : segment_(make_segment(size, 32)), bytes_(size.slot_bytes) {}

    class User : public SegmentUser {
    public:
        User(Managed& pool, int /*index*/) : SegmentUser(pool.segment_), bytes_(pool.bytes_) {}
        [[nodiscard]] Item get() const {
            return static_cast<Item>(segment().allocate(bytes_, std::nothrow));
        }
        void put(Item&& item) const { segment().deallocate(item); }
        void put_sent(std::uint64_t token) const { segment().deallocate(address(token)); }
        [[nodiscard]] bool get_bulk(std::span<Item> items) const {
            Chain chain;
            manager().allocate_many(std::nothrow, bytes_, items.size(), chain);
            return take_all(chain, items);
        }
        void put_bulk(std::span<Item> items) const {
            Chain chain;
            for (std::byte* item : items) {
                chain.push_back(item);
            }
            manager().deallocate_many(chain);
        }
        void put_sent_bulk(std::span<const std::uint64_t> tokens) const {
            Chain chain;
            for (const std::uint64_t token : tokens) {
                chain.push_back(address(token));
            }
            manager().deallocate_many(chain);
        }

    private:
        using Manager = ipc::managed_shared_memory::segment_manager;
        using Chain = Manager::multiallocation_chain;
        [[nodiscard]] Manager& manager() const { return *segment().get_segment_manager(); }
        std::size_t bytes_;
    };

private:
    ipc::managed_shared_memory segment_;
    std::size_t bytes_;
};

template <std::size_t Bytes>
struct Node {
    std::byte bytes[Bytes];
};

/// Nodes of a fixed size from blocks of PerBlock; each process caches up to 64 of them.
template <std::size_t Bytes, std::size_t PerBlock>
class CachedNodes {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit CachedNodes(const Size& size) : segment_(make_segment(size, 0)) {}

    class User : public SegmentUser {
    public:
        User(CachedNodes& pool, int /*index*/)
            : SegmentUser(pool.segment_), nodes_(pool.segment_.get_segment_manager()) {}
        Item get() {
            try {
                return nodes_.allocate_one()->bytes;
            } catch (const ipc::bad_alloc&) {
                return nullptr;
            }
        }
        void put(Item&& item) { nodes_.deallocate_one(reinterpret_cast<Node<Bytes>*>(item)); }
        void put_sent(std::uint64_t token) { put(this->address(token)); }
        bool get_bulk(std::span<Item> items) {
            Chain chain;
            try {
                nodes_.allocate_individual(items.size(), chain);
            } catch (const ipc::bad_alloc&) {
                return false;
            }
            return take_all(chain, items);
        }
        void put_bulk(std::span<Item> items) {
            Chain chain;
            for (std::byte* item : items) {
                chain.push_back(reinterpret_cast<Node<Bytes>*>(item));
            }
            nodes_.deallocate_individual(chain);
        }
        void put_sent_bulk(std::span<const std::uint64_t> tokens) {
            Chain chain;
            for (const std::uint64_t token : tokens) {
                chain.push_back(reinterpret_cast<Node<Bytes>*>(this->address(token)));
            }
            nodes_.deallocate_individual(chain);
        }

    private:
        using Nodes =
            ipc::cached_node_allocator<Node<Bytes>, ipc::managed_shared_memory::segment_manager,
                                       PerBlock>;
        using Chain = typename Nodes::multiallocation_chain;
        Nodes nodes_;
    };

private:
    ipc::managed_shared_memory segment_;
};

/// A ring of free offsets, first in, first out. All members but the constructor: with its mutex
/// held.
struct Ring {
    struct Shared {
        ipc::interprocess_mutex mutex;
        std::size_t head = 0;
        std::size_t free = 0;
    };
    Shared* shared;
    std::uint64_t* offsets;
    std::byte* slots;
    std::size_t count;

    explicit Ring(const Size& size)
        : shared(new (shared_memory(sizeof(Shared))) Shared),
          offsets(static_cast<std::uint64_t*>(shared_memory(size.slots * sizeof(std::uint64_t)))),
          slots(static_cast<std::byte*>(shared_memory(size.slots * size.slot_bytes))),
          count(size.slots) {
        for (std::size_t k = 0; k < count; ++k) {
            give(k * size.slot_bytes);
        }
    }
    /// While one is free.
    [[nodiscard]] std::byte* take() const {
        std::byte* const slot = slots + offsets[shared->head];
        shared->head = shared->head + 1 == count ? 0 : shared->head + 1;
        --shared->free;
        return slot;
    }
    void give(std::uint64_t offset) const {
        const std::size_t tail = shared->head + shared->free++;
        offsets[tail < count ? tail : tail - count] = offset;
    }
};

/// 32 at once under one lock.
class MutexRing {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit MutexRing(const Size& size) : ring_(size) {}

    class User : public AddressItem {
    public:
        User(const MutexRing& pool, int /*index*/) : ring_(pool.ring_) {}
        [[nodiscard]] Item get() const {
            const Lock lock(ring_.shared->mutex);
            return ring_.shared->free == 0 ? nullptr : ring_.take();
        }
        void put(Item&& item) const { put_sent(send(item)); }
        [[nodiscard]] std::uint64_t send(Item item) const {
            return static_cast<std::uint64_t>(item - ring_.slots);
        }
        void put_sent(std::uint64_t token) const {
            const Lock lock(ring_.shared->mutex);
            ring_.give(token);
        }
        [[nodiscard]] bool get_bulk(std::span<Item> items) const {
            const Lock lock(ring_.shared->mutex);
            if (ring_.shared->free < items.size()) {
                return false;
            }
            for (Item& item : items) {
                item = ring_.take();
            }
            return true;
        }
        void put_bulk(std::span<Item> items) const {
            const Lock lock(ring_.shared->mutex);
            for (std::byte* item : items) {
                ring_.give(send(item));
            }
        }
        void put_sent_bulk(std::span<const std::uint64_t> tokens) const {
            const Lock lock(ring_.shared->mutex);
            for (const std::uint64_t token : tokens) {
                ring_.give(token);
            }
        }

    private:
        using Lock = ipc::scoped_lock<ipc::interprocess_mutex>;
        Ring ring_;
    };

private:
    Ring ring_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    using namespace bench;
    static constexpr Peer kPeers[] = {
        peer<Managed>("Boost managed_shared_memory"),
        peer<CachedNodes<kSmall.slot_bytes, 64>, CachedNodes<kLarge.slot_bytes, 4>>(
            "Boost cached_node_allocator"),
        peer<MutexRing>("ring under interprocess_mutex")};
    return peer_main(argc, argv, kPeers);
}
