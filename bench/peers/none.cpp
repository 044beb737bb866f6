// No pool at all: each party walks over slots of its own. What the harness itself costs.
#include <cstdint>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

class NoPool {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit NoPool(const Size& size)
        : slots_(static_cast<std::byte*>(shared_memory(size.slot_bytes * size.slots))),
          size_(size) {}

    class User : public AddressItem {
    public:
        User(NoPool& pool, int index)
            : slots_(pool.slots_ + static_cast<std::size_t>(index % 2) * half(pool)),
              end_(half(pool)),
              stride_(pool.size_.slot_bytes) {}
        Item get() {
            Item item = slots_ + next_;
            next_ = next_ + stride_ == end_ ? 0 : next_ + stride_;
            return item;
        }
        static void put(Item&& item) { touch(item); }
        bool get_bulk(std::span<Item> items) {
            for (Item& item : items) {
                item = get();
            }
            return true;
        }
        static void put_bulk(std::span<Item> items) { touch(items.data()); }
        [[nodiscard]] std::uint64_t send(Item item) const {
            return static_cast<std::uint64_t>(item - slots_);
        }
        static void put_sent(std::uint64_t token) { asm volatile("" : : "r"(token) : "memory"); }
        static void put_sent_bulk(std::span<const std::uint64_t> tokens) { touch(tokens.data()); }

    private:
        static std::size_t half(const NoPool& pool) {
            return pool.size_.slots / 2 * pool.size_.slot_bytes;
        }
        std::byte* slots_;
        std::size_t end_;
        std::size_t stride_;
        std::size_t next_ = 0;
    };

private:
    std::byte* slots_;
    Size size_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    static constexpr bench::Peer kPeers[] = {bench::peer<bench::NoPool>("no pool")};
    return bench::peer_main(argc, argv, kPeers);
}
