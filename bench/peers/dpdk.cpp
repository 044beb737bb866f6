// DPDK's rte_mempool, with and without its cache for each core.
//
// Without huge pages and devices the EAL maps one shared memory file, so processes forked after its
// start share the pool. A cache belongs to a core's number, which each party sets for itself.
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

#include <algorithm>
#include <string>
#include <vector>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

/// Starts the EAL with memory for such a pool and what it needs itself; throws if it doesn't.
void start_eal(const Size& size) {
    const std::size_t mib = 32 + (size.slots * (size.slot_bytes + 128) >> 20U) * 5 / 4;
    std::vector<std::string> words = {
        "bench",      "--no-huge",         "--no-pci", "--no-shconf", "--no-telemetry",
        "-m",         std::to_string(mib), "-l",       "0",           "--log-level",
        "lib.*:error"};
    std::vector<char*> arguments;
    arguments.reserve(words.size());
    for (std::string& word : words) {
        arguments.push_back(word.data());
    }
    if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) {
        throw std::runtime_error(std::string("rte_eal_init: ") + rte_strerror(rte_errno));
    }
}

template <bool Cached>
class Dpdk {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit Dpdk(const Size& size) {
        start_eal(size);
        // The largest cache allowed; a pool must have 1.5 times as many slots.
        const std::size_t cache = std::min<std::size_t>(512, size.slots / 2);
        pool_ = rte_mempool_create("bench", static_cast<unsigned>(size.slots),
                                   static_cast<unsigned>(size.slot_bytes),
                                   Cached ? static_cast<unsigned>(cache) : 0, 0, nullptr, nullptr,
                                   nullptr, nullptr, SOCKET_ID_ANY, 0);
        if (pool_ == nullptr) {
            throw std::runtime_error(std::string("rte_mempool_create: ") + rte_strerror(rte_errno));
        }
    }

    class User : public AddressItem {
    public:
        User(const Dpdk& pool, int index) : pool_(pool.pool_) {
            RTE_PER_LCORE(_lcore_id) = static_cast<unsigned>(index);
            must_use_cache();
        }
        [[nodiscard]] Item get() const {
            void* item = nullptr;
            return rte_mempool_get(pool_, &item) == 0 ? static_cast<Item>(item) : nullptr;
        }
        void put(Item&& item) const { rte_mempool_put(pool_, item); }
        [[nodiscard]] bool get_bulk(std::span<Item> items) const {
            return rte_mempool_get_bulk(pool_, reinterpret_cast<void**>(items.data()),
                                        static_cast<unsigned>(items.size())) == 0;
        }
        void put_bulk(std::span<Item> items) const {
            rte_mempool_put_bulk(pool_, reinterpret_cast<void**>(items.data()),
                                 static_cast<unsigned>(items.size()));
        }
        /// DPDK maps its memory at one address in all processes, and sends addresses.
        static std::uint64_t send(Item item) { return where(item); }
        void put_sent(std::uint64_t token) const { put(reinterpret_cast<Item>(token)); }
        void put_sent_bulk(std::span<const std::uint64_t> tokens) const {
            rte_mempool_put_bulk(pool_, reinterpret_cast<void* const*>(tokens.data()),
                                 static_cast<unsigned>(tokens.size()));
        }

    private:
        /// Throws unless a slot returned goes to this core's own cache, where there are caches.
        void must_use_cache() const {
            void* item = nullptr;
            if (rte_mempool_get(pool_, &item) != 0) {
                fail("the pool is exhausted");
            }
            rte_mempool_cache* const cache = rte_mempool_default_cache(pool_, rte_lcore_id());
            const unsigned before = cache == nullptr ? 0 : cache->len;
            rte_mempool_put(pool_, item);
            const unsigned gained = cache == nullptr ? 0 : cache->len - before;
            if (gained != (Cached ? 1U : 0U) || (pool_->cache_size > 0) != Cached) {
                fail("the core's cache is not used as it should be");
            }
        }
        rte_mempool* pool_;
    };

private:
    rte_mempool* pool_ = nullptr;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    using namespace bench;
    static constexpr Peer kPeers[] = {peer<Dpdk<true>>("DPDK rte_mempool"),
                                      peer<Dpdk<false>>("DPDK rte_mempool, no cache")};
    return peer_main(argc, argv, kPeers);
}
