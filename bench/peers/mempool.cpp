// mempool through its public API: a mempoold of its own serves the pool, each process attaches.
#include <mempool/client.hpp>

#include "harness/daemon.hpp"
#include "harness/peer_main.hpp"

namespace bench {
namespace {

class Mempool {
public:
    static constexpr Kind kKind = Kind::kProcesses;
    explicit Mempool(const Size& size) : daemon_("bench", size.slot_bytes, size.slots) {}

    class User {
    public:
        using Item = mempool::Slot;
        User(const Mempool& pool, int /*index*/) : client_(pool.daemon_.attach()) {}
        [[gnu::always_inline]] Item get() { return client_.get(); }
        [[gnu::always_inline]] void put(Item&& item) { client_.put(std::move(item)); }
        static std::byte* data(const Item& item) { return item.data(); }
        static std::uint64_t where(const Item& item) { return item.offset(); }
        static std::uint64_t send(Item& item) { return item.release().value(); }
        void send_bulk(std::span<Item> items, std::span<std::uint64_t> tokens) {
            send_handles(client_, items, tokens);
        }
        void put_sent(std::uint64_t token) { client_.put(mempool::Handle(token)); }
        bool get_bulk(std::span<Item> items) { return client_.get_bulk(items) == items.size(); }
        void put_bulk(std::span<Item> items) { client_.put_bulk(items); }
        void put_sent_bulk(std::span<const std::uint64_t> tokens) { put_handles(client_, tokens); }

    private:
        // Templates, so that they compile against a library without the bulk calls.
        template <typename Client>
        static void send_handles(Client& client, std::span<Item> items,
                                 std::span<std::uint64_t> tokens) {
            if constexpr (requires(std::span<mempool::Handle> h) {
                              client.release_bulk(items, h);
                          }) {
                std::array<mempool::Handle, kBatch> handles;
                client.release_bulk(items, std::span(handles.data(), items.size()));
                for (std::size_t k = 0; k < tokens.size(); ++k) {
                    tokens[k] = handles[k].value();
                }
            } else {
                for (std::size_t k = 0; k < tokens.size(); ++k) {
                    tokens[k] = send(items[k]);
                }
            }
        }
        template <typename Client>
        static void put_handles(Client& client, std::span<const std::uint64_t> tokens) {
            if constexpr (requires(std::span<const mempool::Handle> h) { client.put_bulk(h); }) {
                std::array<mempool::Handle, kBatch> handles;
                for (std::size_t k = 0; k < tokens.size(); ++k) {
                    handles[k] = mempool::Handle(tokens[k]);
                }
                client.put_bulk(std::span<const mempool::Handle>(handles.data(), tokens.size()));
            } else {
                for (const std::uint64_t token : tokens) {
                    client.put(mempool::Handle(token));
                }
            }
        }
        mempool::Client client_;
    };

private:
    Daemon daemon_;
};

/// The same, but each slot is returned by its handle, as one whose handle others know.
class MempoolByHandle : public Mempool {
public:
    using Mempool::Mempool;
    class User : public Mempool::User {
    public:
        using Mempool::User::User;
        void put(Item&& item) { put_sent(send(item)); }
        // One by one only: returned in bulk they are the hand-over.
        void put_bulk(std::span<Item> items) = delete;
    };
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    static constexpr bench::Peer kPeers[] = {
        bench::peer<bench::Mempool>("mempool"),
        bench::peer<bench::MempoolByHandle>("mempool, put by handle")};
    return bench::peer_main(argc, argv, kPeers);
}
