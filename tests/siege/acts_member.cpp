// With the right on the open pool: what a client can do to its own pool, its own copies of
// descriptors and its own attachment, so that the daemon or the other pool might suffer.
//
// Whatever maps the pool does so in a child: somebody else may truncate it any time.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <mempool/client.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "siege/acts.hpp"
#include "siege/attacker.hpp"
#include "siege/connection.hpp"

namespace mempool_test {

namespace {

using namespace std::chrono_literals;
namespace shm = mempool::shm;
namespace payload = mempool::shm::payload;

constexpr auto kPatience = 1500ms;
/// A segment that is shorter was truncated by somebody.
constexpr off_t kLeastBytes = 65536;

/// An attachment by hand: its connection, and the descriptor of segment 0.
struct Grip {
    Connection connection;
    UniqueFd segment;
    payload::Attachment attachment;
};

// Tells the siege that the pool may have to be made again, unless something else is the reason.
void note_refusal(Attacker& a, int error) {
    if (error != EUSERS && error != ETIMEDOUT && error != EMFILE && error != ENOMEM) {
        a.ledger().open_lost.store(1);
    }
}

off_t size_of(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 ? status.st_size : 0;
}

std::optional<Grip> grip(Attacker& a) {
    Grip g{Connection(a.scene().socket), {}, {}};
    const auto reply = g.connection.ask(request_of(RequestKind::kAttach, a.scene().open_pool),
                                        &g.segment, kPatience);
    if (!reply || reply->error != 0 || !g.segment || size_of(g.segment.get()) < kLeastBytes) {
        note_refusal(a, reply && reply->error != 0 ? reply->error : EIO);
        return std::nullopt;
    }
    a.ledger().open_attaches.fetch_add(1);
    g.attachment = payload::of<payload::Attachment>(*reply);
    return g;
}

// For children only.
mempool::Client client_of(Attacker& a) {
    try {
        auto client = mempool::Client::attach(a.scene().open_pool,
                                              {.socket = a.scene().socket, .timeout = kPatience});
        a.ledger().open_attaches.fetch_add(1);
        return client;
    } catch (const mempool::Error& e) {
        note_refusal(a, e.code().value());
        throw;
    }
}

std::vector<mempool::Slot> take(mempool::Client& client, std::size_t count) {
    std::vector<mempool::Slot> slots;
    for (std::size_t k = 0; k < count; ++k) {
        mempool::Slot slot = client.get();
        if (!slot) {
            break;
        }
        slots.push_back(std::move(slot));
    }
    return slots;
}

[[noreturn]] void wait_for_the_end() {
    for (;;) {
        ::pause();
    }
}

bool attach_and_stay_silent(Attacker& a) {
    auto g = grip(a);
    if (g) {
        a.hold(g->connection.release(), a.about(1s));
    }
    return g.has_value();
}

// Replies with descriptors that stay in flight count against the daemon's user.
bool segments_unread(Attacker& a) {
    bool done = false;
    for (int k = 0; k < 12; ++k) {
        Connection connection(a.scene().socket);
        connection.send(request_of(RequestKind::kAttach, a.scene().open_pool));
        for (int n = 0; n < 120 && connection.send(request_of(RequestKind::kSegment)); ++n) {
            done = true;
        }
        a.hold(connection.release(), 1200ms);
    }
    return done;
}

bool die_with_slots(Attacker& a) {
    return a.in_child(1s, [&a] {
        mempool::Client client = client_of(a);
        auto slots = take(client, 1 + a.below(200));
        ::raise(SIGKILL);
        return true;
    });
}

bool exec_with_slots(Attacker& a) {
    return a.in_child(700ms, [&a] {
        mempool::Client client = client_of(a);
        auto slots = take(client, 20);
        ::execl("/bin/sleep", "sleep", "1", nullptr);
        return false;
    });
}

bool fork_with_slots(Attacker& a) {
    return a.in_child(700ms, [&a] {
        mempool::Client client = client_of(a);
        auto slots = take(client, 20);
        const pid_t child = ::fork();
        if (child == 0) {  // outlives its parent, with its connection and its mapping
            ::alarm(1);
            for (mempool::Slot& slot : slots) {
                slot.release();
            }
            wait_for_the_end();
        }
        ::raise(SIGKILL);
        return child > 0;
    });
}

bool detach_and_leave(Attacker& a) {
    return a.in_child(700ms, [&a] {
        mempool::Client client = client_of(a);
        for (mempool::Slot& slot : take(client, 5)) {
            (void)slot.detach();
        }
        return true;
    });
}

bool attach_and_detach(Attacker& a) {
    return a.in_child(1s, [&a] {
        for (int k = 0; k < 12; ++k) {
            mempool::Client client = client_of(a);
            auto slots = take(client, 3);
        }
        return true;
    });
}

// One that waits is stopped in the middle of it, and counts as a waiter all the while.
bool stop_in_get_for(Attacker& a) {
    return a.in_child(2s, [&a] {
        const pid_t waiter = Attacker::fork_again(3s);
        if (waiter == 0) {
            mempool::Client client = client_of(a);
            auto slots = take(client, ~std::size_t{0});
            const mempool::Slot none = client.get_for(2s);
            ::_exit(0);
        }
        std::this_thread::sleep_for(150ms);
        ::kill(waiter, SIGSTOP);
        std::this_thread::sleep_for(500ms);
        ::kill(waiter, SIGKILL);
        return ::waitpid(waiter, nullptr, 0) == waiter;
    });
}

bool close_all_descriptors(Attacker& a) {
    return a.in_child(700ms, [&a] {
        mempool::Client client = client_of(a);
        auto slots = take(client, 10);
        ::syscall(SYS_close_range, 3U, ~0U, 0U);
        for (int k = 0; k < 200; ++k) {
            const mempool::Slot slot = client.get();
        }
        return true;
    });
}

bool attach_at_the_limits(Attacker& a) {
    return a.in_child(1s, [&a] {
        std::array<rlimit, 3> limits = {rlimit{5 + a.below(6), 64}, rlimit{0, 0},
                                        rlimit{(64U << 20U) + a.below(64U << 20U), RLIM_INFINITY}};
        constexpr std::array kKinds = {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_AS};
        const std::size_t which = a.below(kKinds.size());
        ::setrlimit(kKinds.at(which), &limits.at(which));
        try {
            mempool::Client client = client_of(a);
            auto slots = take(client, 10);
        } catch (const std::exception&) {
            // As it must be where there is no room.
        }
        return true;
    });
}

bool attach_from_namespaces(Attacker& a) {
    return a.in_namespaces(1500ms, [&a] {
        mempool::Client client = client_of(a);
        auto slots = take(client, 20);
        std::this_thread::sleep_for(200ms);
        ::raise(SIGKILL);
    });
}

bool truncate_own_copy(Attacker& a) {
    auto g = grip(a);
    const off_t size = g ? size_of(g->segment.get()) : 0;
    const bool longer = a.below(4) == 0;
    const off_t wanted = longer ? size * 2 : static_cast<off_t>(a.below(2) * 4096);
    return g && ::ftruncate(g->segment.get(), wanted) == 0;
}

bool punch_own_copy(Attacker& a) {
    auto g = grip(a);
    const off_t size = g ? size_of(g->segment.get()) : 0;
    return size > 0 &&
           ::fallocate(g->segment.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(a.below(static_cast<std::uint64_t>(size))), 65536) == 0;
}

// Nonsense in the metadata of its own pool, half of it in the header.
bool scribble(Attacker& a) {
    auto g = grip(a);
    if (!g) {
        return false;
    }
    for (int k = 0; k < 64; ++k) {
        const std::uint64_t nonsense = a.random();
        const std::uint64_t most = k % 2 == 0 ? offsetof(shm::Header, reserved) : 1U << 17U;
        (void)!::pwrite(g->segment.get(), &nonsense, sizeof(nonsense),
                        static_cast<off_t>(a.below(most) & ~std::uint64_t{7}));
    }
    return true;
}

bool flags_of_own_copy(Attacker& a) {
    auto g = grip(a);
    if (!g) {
        return false;
    }
    ::fcntl(g->segment.get(), F_SETFL, O_APPEND | O_NONBLOCK | O_NOATIME);
    ::fcntl(g->segment.get(), F_SETOWN, a.scene().daemon);
    ::fcntl(g->segment.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK);
    ::lseek(g->segment.get(), 0, SEEK_END);
    a.hold(std::move(g->segment), 500ms);
    return true;
}

bool lock_own_copy(Attacker& a) {
    auto g = grip(a);
    if (!g) {
        return false;
    }
    struct flock all {};
    all.l_type = F_WRLCK;
    ::flock(g->segment.get(), LOCK_EX | LOCK_NB);
    ::fcntl(g->segment.get(), F_OFD_SETLK, &all);
    ::fcntl(g->segment.get(), F_SETLEASE, F_RDLCK);
    a.hold(std::move(g->segment), 700ms);
    return true;
}

// Its descriptors lie in queues that nobody reads.
bool own_copy_in_flight(Attacker& a) {
    auto g = grip(a);
    std::array<int, 2> pair{};
    if (!g || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return false;
    }
    for (int k = 0; k < 100; ++k) {
        shm::send_message(pair[0], request_of(RequestKind::kStatus), g->segment.get(),
                          MSG_DONTWAIT);
    }
    a.hold(UniqueFd(pair[0]), 500ms);
    a.hold(UniqueFd(pair[1]), 500ms);
    return true;
}

bool wrong_tokens(Attacker& a) {
    auto g = grip(a);
    if (!g) {
        return false;
    }
    for (std::uint64_t client = 0; client < 8; ++client) {
        Connection connection(a.scene().socket);
        shm::Request resume = request_of(RequestKind::kResume, a.scene().open_pool);
        payload::put(resume, payload::Attachment{.client = client,
                                                 .key = g->attachment.key,
                                                 .token = a.random(),
                                                 .epoch = g->attachment.epoch});
        connection.ask_in_vain(a, resume);
    }
    shm::Request bye = request_of(RequestKind::kBye, a.scene().open_pool);
    payload::put(bye,
                 payload::Bye{.token = a.random(), .client = a.below(8), .key = g->attachment.key});
    return g->connection.send(bye);
}

// All clients of its pool seem to leave, without the token that proves it.
bool forge_goodbyes(Attacker& a) {
    auto g = grip(a);
    shm::Header header{};
    if (!g || ::pread(g->segment.get(), &header, sizeof(header), 0) != sizeof(header)) {
        return false;
    }
    for (std::uint64_t client = 1; client < 32; ++client) {
        const std::uint32_t leaving = 2 + static_cast<std::uint32_t>(a.below(3));
        const std::uint64_t token = a.random();
        const auto record = header.geometry.clients_offset + client * sizeof(shm::ClientRecord);
        const auto lane = header.geometry.lanes_offset + client * sizeof(shm::LaneRecord);
        (void)!::pwrite(g->segment.get(), &token, sizeof(token),
                        static_cast<off_t>(lane + offsetof(shm::LaneRecord, farewell)));
        (void)!::pwrite(g->segment.get(), &leaving, sizeof(leaving),
                        static_cast<off_t>(record + offsetof(shm::ClientRecord, state)));
    }
    return true;
}

bool want_more(Attacker& a) {
    auto g = grip(a);
    for (int k = 0; g && k < 400 && g->connection.send(request_of(RequestKind::kWantMore)); ++k) {
    }
    return g.has_value();
}

// Many sleep on words of the pool.
bool sleep_on_its_futexes(Attacker& a) {
    return a.in_child(900ms, [&a] {
        auto g = grip(a);
        void* map =
            g ? ::mmap(nullptr, 65536, PROT_READ, MAP_SHARED, g->segment.get(), 0) : MAP_FAILED;
        if (map == MAP_FAILED) {
            return false;
        }
        for (int k = 0; k < 6; ++k) {
            if (Attacker::fork_again(2s) == 0) {
                const timespec time{0, 500'000'000};
                auto* word = static_cast<std::uint32_t*>(map) + a.below(1024) + 17U * k;
                ::syscall(SYS_futex, word, FUTEX_WAIT, *word, &time, nullptr, 0);
                ::_exit(0);
            }
        }
        while (::wait(nullptr) > 0) {
        }
        return true;
    });
}

// The daemon has to look whether it still maps the pool: here that is a long list.
bool map_it_a_thousand_times(Attacker& a) {
    return a.in_child(1500ms, [&a] {
        {
            auto g = grip(a);
            for (int k = 0; g && k < 4000; ++k) {
                ::mmap(nullptr, 4096, k % 2 == 0 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED,
                       g->segment.get(), 0);
            }
            if (!g) {
                return false;
            }
        }
        std::this_thread::sleep_for(300ms);
        return true;
    });
}

bool ask_for_the_other_pool(Attacker& a) {
    Connection first(a.scene().socket);
    const bool done = first.ask_in_vain(a, request_of(RequestKind::kAttach, a.scene().work_pool));
    Connection second(a.scene().socket);
    second.ask_in_vain(a, request_of(RequestKind::kInspect, a.scene().work_pool));
    if (auto g = grip(a)) {  // and on a connection that has a pool
        g->connection.ask_in_vain(a, request_of(RequestKind::kAttach, a.scene().work_pool));
    }
    return done;
}

bool inspect_and_read_much(Attacker& a) {
    Connection connection(a.scene().socket);
    UniqueFd passed;
    const auto reply =
        connection.ask(request_of(RequestKind::kInspect, a.scene().open_pool), &passed);
    if (passed) {
        a.breach("got a descriptor to look at a pool");
    }
    for (int k = 0; k < 30; ++k) {
        shm::Request read = request_of(RequestKind::kRead, a.scene().open_pool);
        payload::put(read, payload::Read{a.below(1U << 20U), shm::kMaxReadBytes});
        connection.send(read);  // replies of 64 KiB that nobody reads
    }
    a.hold(connection.release(), a.about(300ms));
    return reply.has_value();
}

constexpr std::array kMemberActs = {
    Act{"member: attaches, is silent", Who::kMember, attach_and_stay_silent},
    Act{"member: segments unread", Who::kMember, segments_unread},
    Act{"member: reads unread", Who::kMember, inspect_and_read_much},
    Act{"member: wants more", Who::kMember, want_more},
    Act{"member: other pool", Who::kMember, ask_for_the_other_pool},
    Act{"member: wrong tokens", Who::kMember, wrong_tokens},
    Act{"member: forged goodbyes", Who::kMember, forge_goodbyes},
    Act{"member: scribbles", Who::kMember, scribble},
    Act{"member: truncates", Who::kMember, truncate_own_copy},
    Act{"member: punches holes", Who::kMember, punch_own_copy},
    Act{"member: flags, seals", Who::kMember, flags_of_own_copy},
    Act{"member: locks, leases", Who::kMember, lock_own_copy},
    Act{"member: copies in flight", Who::kMember, own_copy_in_flight},
    Act{"member: maps 4,000 times", Who::kMember, map_it_a_thousand_times},
    Act{"member: futex sleepers", Who::kMember, sleep_on_its_futexes},
    Act{"member: stops in get_for", Who::kMember, stop_in_get_for},
    Act{"member: kill -9", Who::kMember, die_with_slots},
    Act{"member: exec", Who::kMember, exec_with_slots},
    Act{"member: fork", Who::kMember, fork_with_slots},
    Act{"member: detaches slots", Who::kMember, detach_and_leave},
    Act{"member: comes and goes", Who::kMember, attach_and_detach},
    Act{"member: closes all", Who::kMember, close_all_descriptors},
    Act{"member: limits", Who::kMember, attach_at_the_limits},
    Act{"member: namespaces", Who::kMember, attach_from_namespaces, true},
};

}  // namespace

std::span<const Act> member_acts() { return kMemberActs; }

}  // namespace mempool_test
