#include "peers.hpp"

#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <cstdlib>
#include <new>

#include "processes.hpp"

namespace bench {

namespace ipc = boost::interprocess;

// The peer is malloc itself, and every peer is an object.
// NOLINTBEGIN(*-no-malloc,*-convert-member-functions-to-static)
Malloc::Item Malloc::get() { return std::malloc(kSlotBytes); }
void Malloc::put(Item&& item) { std::free(item); }
// NOLINTEND(*-no-malloc,*-convert-member-functions-to-static)

struct Managed::Impl {
    ipc::managed_shared_memory segment;
};

void Managed::create(const std::string& name) {
    // Twice the slots' bytes: room for the allocator's own headers.
    ipc::managed_shared_memory(ipc::create_only, name.c_str(), kSlots * kSlotBytes * 4);
}
void Managed::remove(const std::string& name) { ipc::shared_memory_object::remove(name.c_str()); }
Managed::Managed(const std::string& name)
    : impl_(new Impl{ipc::managed_shared_memory(ipc::open_only, name.c_str())}) {}
Managed::~Managed() = default;
Managed::Item Managed::get() { return impl_->segment.allocate(kSlotBytes, std::nothrow); }
void Managed::put(Item&& item) { impl_->segment.deallocate(item); }
std::uint64_t Managed::send(Item& item) {
    return static_cast<std::uint64_t>(impl_->segment.get_handle_from_address(item));
}
void Managed::put_sent(std::uint64_t token) {
    using Handle = ipc::managed_shared_memory::handle_t;
    impl_->segment.deallocate(impl_->segment.get_address_from_handle(static_cast<Handle>(token)));
}

struct MutexRing::Shared {
    ipc::interprocess_mutex mutex;
    std::uint64_t head = 0;
    std::uint64_t tail = kSlots;
    std::uint64_t offsets[kSlots] = {};
    alignas(64) std::byte slots[kSlots * kSlotBytes] = {};
};

MutexRing::Shared* MutexRing::create() {
    auto* shared = new (shared_memory(sizeof(Shared))) Shared;
    for (std::size_t k = 0; k < kSlots; ++k) {
        shared->offsets[k] = k * kSlotBytes;
    }
    return shared;
}
MutexRing::Item MutexRing::get() {
    const ipc::scoped_lock<ipc::interprocess_mutex> lock(shared_->mutex);
    if (shared_->head == shared_->tail) {
        return nullptr;
    }
    return shared_->slots + shared_->offsets[shared_->head++ % kSlots];
}
void MutexRing::put(Item&& item) { put_sent(send(item)); }
std::uint64_t MutexRing::send(Item& item) {
    return static_cast<std::uint64_t>(static_cast<std::byte*>(item) - shared_->slots);
}
void MutexRing::put_sent(std::uint64_t token) {
    const ipc::scoped_lock<ipc::interprocess_mutex> lock(shared_->mutex);
    shared_->offsets[shared_->tail++ % kSlots] = token;
}

}  // namespace bench
