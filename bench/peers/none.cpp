// No pool at all, and the least that a pool must do: what no peer can go below.
//
//   no pool                 each party walks over slots of its own. What the harness itself costs
//   no pool, a word a slot  and checks and changes a word beside each slot at its get and its put:
//                           without it nobody knows who holds a slot, or finds a double put
//   no pool, a word by CAS  the same, but the word of a slot that was sent changes by a
//                           compare-and-swap: two may return it at the same time
//   no pool, a stack        each party keeps its free slots on a stack, as every thread cache does:
//                           a get waits for the count that the last put stored
//   no pool, both           a word a slot, and a stack
//
// Nothing here is shared, can run out or returns to its owner: a slot that was sent to another
// party is its sender's again at once, though the other still changes its word.
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

enum class Word : std::uint8_t { kNone, kStored, kSwapped };

template <bool Stacked, Word Kept>
class NoPool {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit NoPool(const Size& size)
        : slots_(static_cast<std::byte*>(shared_memory(size.slot_bytes * size.slots))),
          records_(static_cast<Record*>(shared_memory(sizeof(Record) * size.slots))),
          size_(size) {}

private:
    /// As large as mempool's: four in a line.
    struct Record {
        std::atomic<std::uint64_t> word;
        std::uint64_t unused = 0;
    };
    static constexpr std::uint64_t kHeld = 1;

    std::byte* slots_;
    Record* records_;
    Size size_;

public:
    class User {
    public:
        struct Item {
            std::byte* data;
            std::uint32_t index;
        };
        User(NoPool& pool, int index)
            : slots_(pool.slots_),
              records_(pool.records_),
              stride_(pool.size_.slot_bytes),
              first_(static_cast<std::uint32_t>(pool.size_.slots / 2 * (index % 2 == 0 ? 0U : 1U))),
              end_(first_ + static_cast<std::uint32_t>(pool.size_.slots / 2)),
              next_(first_),
              stack_(std::make_unique<Stack>()) {
            for (std::uint32_t i = end_; i > first_; --i) {
                stack_->items.push_back(i - 1);
            }
            stack_->count = end_ - first_;
        }

        static std::byte* data(const Item& item) { return item.data; }
        static std::uint64_t where(const Item& item) {
            return reinterpret_cast<std::uintptr_t>(item.data);
        }
        Item get() {
            const std::uint32_t i = take();
            if constexpr (Kept != Word::kNone) {
                change(i, 0);
            }
            return {slots_ + i * stride_, i};
        }
        void put(Item&& item) {
            if constexpr (Kept != Word::kNone) {
                change(item.index, kHeld);
            }
            give(item.index);
        }
        bool get_bulk(std::span<Item> items) {
            for (Item& item : items) {
                item = get();
            }
            return true;
        }
        void put_bulk(std::span<Item> items) {
            for (Item& item : items) {
                put(std::move(item));
            }
        }
        [[nodiscard]] std::uint64_t send(const Item& item) {
            give(item.index);
            return item.index;
        }
        void put_sent(std::uint64_t token) {
            if constexpr (Kept == Word::kSwapped) {
                swap(static_cast<std::uint32_t>(token));
            } else if constexpr (Kept == Word::kStored) {
                change(static_cast<std::uint32_t>(token), kHeld);
            }
            asm volatile("" : : "r"(token) : "memory");
        }
        void put_sent_bulk(std::span<const std::uint64_t> tokens) {
            for (const std::uint64_t token : tokens) {
                put_sent(token);
            }
        }

    private:
        /// By a pointer, as whatever outlives a call is: were it a member, a processor that
        /// forwards stores by the names of registers would not wait for them.
        struct Stack {
            std::atomic<std::uint32_t> count;
            std::vector<std::uint32_t> items;
        };

        std::uint32_t take() {
            if constexpr (Stacked) {
                const std::uint32_t count = stack_->count.load(std::memory_order_relaxed) - 1;
                stack_->count.store(count, std::memory_order_relaxed);
                return stack_->items[count];
            } else {
                const std::uint32_t i = next_;
                next_ = next_ + 1 == end_ ? first_ : next_ + 1;
                return i;
            }
        }
        void give(std::uint32_t i) {
            if constexpr (Stacked) {
                const std::uint32_t count = stack_->count.load(std::memory_order_relaxed);
                stack_->items[count] = i;
                stack_->count.store(count + 1, std::memory_order_relaxed);
            } else {
                touch(&i);
            }
        }
        // From what a slot's word should say to the other; counts where it says otherwise.
        void change(std::uint32_t i, std::uint64_t from) {
            std::atomic<std::uint64_t>& word = records_[i].word;
            const std::uint64_t seen = word.load(std::memory_order_acquire);
            if ((seen & kHeld) != from) [[unlikely]] {
                ++strange_;
            }
            word.store(seen + 1, std::memory_order_release);
        }
        void swap(std::uint32_t i) {
            std::atomic<std::uint64_t>& word = records_[i].word;
            std::uint64_t seen = word.load(std::memory_order_relaxed);
            if ((seen & kHeld) == 0 ||
                !word.compare_exchange_strong(seen, seen + 1, std::memory_order_release)) {
                ++strange_;
            }
        }

        std::byte* slots_;
        Record* records_;
        std::size_t stride_;
        std::uint32_t first_;
        std::uint32_t end_;
        std::uint32_t next_;
        std::unique_ptr<Stack> stack_;
        std::uint64_t strange_ = 0;
    };
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    using bench::NoPool;
    using bench::Word;
    static constexpr bench::Peer kPeers[] = {
        bench::peer<NoPool<false, Word::kNone>>("no pool"),
        bench::peer<NoPool<false, Word::kStored>>("no pool, a word a slot"),
        bench::peer<NoPool<false, Word::kSwapped>>("no pool, a word by CAS"),
        bench::peer<NoPool<true, Word::kNone>>("no pool, a stack"),
        bench::peer<NoPool<true, Word::kStored>>("no pool, both"),
    };
    return bench::peer_main(argc, argv, kPeers);
}
