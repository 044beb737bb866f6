// Boost.Lockfree's queue and stack of slot numbers, placed in shared memory.
//
// Their nodes are numbered by 16 bits, so each holds at most 65,534 slots: in the case of 100,000
// slots they have 65,000. Neither has a bulk interface that costs less than single calls.
#include <algorithm>
#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/stack.hpp>
#include <new>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

constexpr std::size_t kMost = 65'000;
using Capacity = boost::lockfree::capacity<kMost>;
using Queue = boost::lockfree::queue<std::uint32_t, Capacity>;
using Stack = boost::lockfree::stack<std::uint32_t, Capacity>;

template <typename Numbers>
class Lockfree {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit Lockfree(const Size& size)
        : numbers_(new (shared_memory(sizeof(Numbers))) Numbers),
          slots_(static_cast<std::byte*>(shared_memory(size.slots * size.slot_bytes))),
          bytes_(size.slot_bytes) {
        for (std::size_t k = std::min(size.slots, kMost); k-- > 0;) {
            numbers_->bounded_push(static_cast<std::uint32_t>(k));
        }
    }

    class User : public AddressItem {
    public:
        User(const Lockfree& pool, int /*index*/)
            : numbers_(pool.numbers_), slots_(pool.slots_), bytes_(pool.bytes_) {}
        [[nodiscard]] Item get() const {
            std::uint32_t number = 0;
            return numbers_->pop(number) ? slots_ + number * bytes_ : nullptr;
        }
        void put(Item&& item) const { put_sent(send(item)); }
        [[nodiscard]] std::uint64_t send(Item item) const {
            return static_cast<std::uint64_t>(item - slots_) / bytes_;
        }
        void put_sent(std::uint64_t token) const {
            if (!numbers_->bounded_push(static_cast<std::uint32_t>(token))) [[unlikely]] {
                fail("more slots come back than there are");
            }
        }

    private:
        Numbers* numbers_;
        std::byte* slots_;
        std::size_t bytes_;
    };

private:
    Numbers* numbers_;
    std::byte* slots_;
    std::size_t bytes_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    using namespace bench;
    static constexpr Peer kPeers[] = {peer<Lockfree<Queue>>("boost::lockfree::queue"),
                                      peer<Lockfree<Stack>>("boost::lockfree::stack")};
    return peer_main(argc, argv, kPeers);
}
