#include "registry.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <new>
#include <system_error>

#include "client_impl.hpp"
#include "mempool/error.hpp"
#include "mempool/shm/words/layout.hpp"

namespace mempool::detail {

Registry& Registry::instance() {
    static constinit std::atomic<Registry*> made{nullptr};
    Registry* registry = made.load(std::memory_order_acquire);
    if (registry != nullptr) {
        return *registry;
    }
    void* page =
        ::mmap(nullptr, shm::kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        throw Error(errno, std::generic_category(), "no memory for a client of a pool");
    }
    if (::madvise(page, shm::kPage, MADV_WIPEONFORK) != 0) {
        const int error = errno;
        ::munmap(page, shm::kPage);
        throw Error(error, std::generic_category(),
                    "the kernel lacks MADV_WIPEONFORK: Linux 4.14 or later is needed");
    }
    auto* mine = new (page) Registry;
    // Never destroyed: threads may end after everything else has.
    if (made.compare_exchange_strong(registry, mine, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
        return *mine;
    }
    ::munmap(page, shm::kPage);
    return *registry;
}

void Registry::add(ClientImpl& client) noexcept {
    const std::lock_guard guard(mutex_);
    client.next_client_ = first_;
    first_ = &client;
}

void Registry::remove(ClientImpl& client) noexcept {
    const std::lock_guard guard(mutex_);
    for (ClientImpl** link = &first_; *link != nullptr; link = &(*link)->next_client_) {
        if (*link == &client) {
            *link = client.next_client_;
            return;
        }
    }
}

void Registry::retire(std::uint64_t serial, ThreadLane& lane) noexcept {
    ClientImpl* client = nullptr;
    {
        const std::lock_guard guard(mutex_);
        client = find(serial);
    }
    if (client != nullptr) {
        client->retire(lane);  // it is still there: the lane is one of its stays
    }
}

bool Registry::is_in_use(std::uint64_t serial) noexcept {
    const std::lock_guard guard(mutex_);
    const ClientImpl* client = find(serial);
    return client != nullptr && !client->has_left();
}

ClientImpl* Registry::find(std::uint64_t serial) const noexcept {
    ClientImpl* client = first_;
    while (client != nullptr && client->serial() != serial) {
        client = client->next_client_;
    }
    return client;
}

}  // namespace mempool::detail
