// glibc's malloc, and allocators that replace it by LD_PRELOAD: jemalloc, mimalloc. They live in
// one process, so their parties are threads, and a hand-over is from thread to thread.
//
// Bursts are single calls: none of them has a bulk interface to malloc and free. The calls go
// through the PLT, as in every program.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "harness/peer_main.hpp"

namespace bench {
namespace {

class Malloc {
public:
    static constexpr Kind kKind = Kind::kThreads;
    explicit Malloc(const Size& size) : bytes_(size.slot_bytes) {}

    class User : public AddressItem {
    public:
        User(const Malloc& pool, int /*index*/) : bytes_(pool.bytes_) {}
        // NOLINTBEGIN(*-no-malloc): they are what is measured
        [[nodiscard]] Item get() const { return static_cast<Item>(std::malloc(bytes_)); }
        static void put(Item&& item) { std::free(item); }
        // NOLINTEND(*-no-malloc)
        static std::uint64_t send(Item item) { return where(item); }
        static void put_sent(std::uint64_t token) { put(reinterpret_cast<Item>(token)); }

    private:
        std::size_t bytes_;
    };

private:
    std::size_t bytes_;
};

/// An allocator's library, and a function that it has and no other.
struct Preload {
    const char* peer;
    const char* library;
    const char* mark;
};
constexpr Preload kPreloads[] = {{"jemalloc", "libjemalloc.so.2", "mallctl"},
                                 {"mimalloc", "libmimalloc.so.2", "mi_malloc"}};

/// Makes sure that malloc is the one `peer` says, starting this program anew where it isn't.
/// Returns 0, or kExitNotInstalled.
int have_allocator(std::string_view peer, char** argv) {
    for (const Preload& preload : kPreloads) {
        const bool present = ::dlsym(RTLD_DEFAULT, preload.mark) != nullptr;
        if (present == (peer == preload.peer)) {
            continue;
        }
        if (present || ::getenv("LD_PRELOAD") != nullptr) {
            return kExitNotInstalled;
        }
        ::setenv("LD_PRELOAD", preload.library, 1);
        ::execv("/proc/self/exe", argv);
        std::perror("bench: /proc/self/exe");
        return 1;
    }
    return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    static constexpr bench::Peer kPeers[] = {bench::peer<bench::Malloc>("glibc malloc"),
                                             bench::peer<bench::Malloc>("jemalloc"),
                                             bench::peer<bench::Malloc>("mimalloc")};
    if (argc > 2) {
        const int code = bench::have_allocator(argv[1], argv);
        if (code != 0) {
            return code;
        }
    }
    return bench::peer_main(argc, argv, kPeers);
}
