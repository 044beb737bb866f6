// iceoryx 2: its MemPool of chunks in shared memory, which its users reach through RouDi. Here it
// is used directly, so what its publishers add on top is not counted.
#include <iceoryx_hoofs/internal/posix_wrapper/shared_memory_object/allocator.hpp>
#include <iceoryx_posh/internal/mepoo/mem_pool.hpp>
#include <new>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

class Iceoryx {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit Iceoryx(const Size& size)
        : chunks_(static_cast<std::byte*>(shared_memory(size.slot_bytes * size.slots))) {
        const auto slots = static_cast<std::uint32_t>(size.slots);
        const std::size_t management_bytes =
            iox::mepoo::MemPool::freeList_t::requiredIndexMemorySize(slots) + 4096;
        iox::posix::Allocator management(shared_memory(management_bytes), management_bytes);
        iox::posix::Allocator chunks(chunks_, size.slot_bytes * size.slots);
        pool_ = new (shared_memory(sizeof(iox::mepoo::MemPool))) iox::mepoo::MemPool(
            static_cast<std::uint32_t>(size.slot_bytes), slots, management, chunks);
    }

    class User : public AddressItem {
    public:
        User(const Iceoryx& pool, int /*index*/) : pool_(pool.pool_), chunks_(pool.chunks_) {}
        [[nodiscard]] Item get() const { return static_cast<Item>(pool_->getChunk()); }
        void put(Item&& item) const { pool_->freeChunk(item); }
        [[nodiscard]] std::uint64_t send(Item item) const {
            return static_cast<std::uint64_t>(item - chunks_);
        }
        void put_sent(std::uint64_t token) const { pool_->freeChunk(chunks_ + token); }

    private:
        iox::mepoo::MemPool* pool_;
        std::byte* chunks_;
    };

private:
    std::byte* chunks_;
    iox::mepoo::MemPool* pool_ = nullptr;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    static constexpr bench::Peer kPeers[] = {bench::peer<bench::Iceoryx>("iceoryx MemPool")};
    return bench::peer_main(argc, argv, kPeers);
}
