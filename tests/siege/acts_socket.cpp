// Connections and messages: floods, silence, nonsense, and questions that are nobody's business.
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
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

constexpr std::uint32_t kMostGuessedClient = 40;

void linger(Attacker& a, Connection connection, std::chrono::milliseconds wait) {
    a.hold(connection.release(), wait);
}

bool connect_and_say_nothing(Attacker& a) {
    bool done = false;
    for (int k = 0; k < 24; ++k) {
        Connection connection(a.scene().socket);
        done = done || connection.open();
        linger(a, std::move(connection), a.about(1500ms));
    }
    return done;
}

// More than one user may have; those of several users together are more than there can be.
bool connect_as_many_as_it_gets(Attacker& a) {
    auto held = std::make_shared<std::vector<Connection>>();
    for (int k = 0; k < 300; ++k) {
        held->emplace_back(a.scene().socket, 50ms);
        if (!held->back().open()) {
            held->pop_back();
            break;
        }
    }
    const bool done = !held->empty();
    a.later(a.about(1500ms), [held] { held->clear(); });
    return done;
}

bool connect_and_leave(Attacker& a) {
    bool done = false;
    for (int k = 0; k < 40; ++k) {
        const Connection connection(a.scene().socket);
        done = done || connection.open();
    }
    return done;
}

bool send_bytes_of(Attacker& a, std::size_t bytes) {
    Connection connection(a.scene().socket);
    std::vector<char> message(bytes);
    for (char& byte : message) {
        byte = static_cast<char>(a.random());
    }
    const bool done = connection.open() && connection.send_bytes(message.data(), message.size());
    linger(a, std::move(connection), a.about(200ms));
    return done;
}

bool half_message(Attacker& a) {
    Connection connection(a.scene().socket);
    const shm::Request request = request_of(RequestKind::kStatus);
    const bool done =
        connection.open() && connection.send_bytes(&request, 1 + a.below(sizeof(request) - 1));
    linger(a, std::move(connection), a.about(200ms));
    return done;
}

bool huge_message(Attacker& a) { return send_bytes_of(a, (1U << 16U) + a.below(1U << 16U)); }
bool empty_message(Attacker& a) { return send_bytes_of(a, 0); }
bool random_message(Attacker& a) { return send_bytes_of(a, sizeof(shm::Request)); }

bool send_wrong(Attacker& a, void (*spoil)(Attacker&, shm::Request&)) {
    Connection connection(a.scene().socket);
    shm::Request request = request_of(RequestKind::kStatus, a.scene().work_pool);
    spoil(a, request);
    const bool done = connection.open() && connection.send(request);
    linger(a, std::move(connection), a.about(200ms));
    return done;
}

bool wrong_magic(Attacker& a) {
    return send_wrong(a, [](Attacker& b, shm::Request& request) {
        request.magic ^= static_cast<std::uint32_t>(1 + b.below(1000));
    });
}
bool wrong_version(Attacker& a) {
    return send_wrong(a, [](Attacker& b, shm::Request& request) {
        request.version = static_cast<std::uint16_t>(b.random());
    });
}
bool unknown_kind(Attacker& a) {
    return send_wrong(a, [](Attacker& b, shm::Request& request) {
        request.kind = static_cast<RequestKind>(14 + b.below(60000));
    });
}
bool name_without_end(Attacker& a) {
    return send_wrong(a, [](Attacker& b, shm::Request& request) {
        request.kind = b.below(2) == 0 ? RequestKind::kAttach : RequestKind::kInspect;
        std::memset(request.pool, static_cast<int>(1 + b.below(255)), sizeof(request.pool));
    });
}

// Sends as many of `kind` as the daemon takes, and reads no reply.
bool flood(Attacker& a, RequestKind kind, int count, const std::string& pool) {
    Connection connection(a.scene().socket);
    bool done = false;
    for (int k = 0; k < count && connection.open() && connection.send(request_of(kind, pool));
         ++k) {
        done = true;
    }
    linger(a, std::move(connection), a.about(600ms));
    return done;
}

bool attach_unread(Attacker& a) { return flood(a, RequestKind::kAttach, 300, a.scene().work_pool); }
bool status_unread(Attacker& a) { return flood(a, RequestKind::kStatus, 300, ""); }
bool list_unread(Attacker& a) { return flood(a, RequestKind::kList, 300, ""); }
bool inspect_unread(Attacker& a) {
    return flood(a, RequestKind::kInspect, 100, a.scene().work_pool);
}

bool inspect_and_read(Attacker& a) {
    Connection connection(a.scene().socket);
    const bool done =
        connection.ask_in_vain(a, request_of(RequestKind::kInspect, a.scene().work_pool));
    for (int k = 0; k < 20; ++k) {
        shm::Request read = request_of(RequestKind::kRead, a.scene().work_pool);
        payload::put(read, payload::Read{a.random(), a.below(2) == 0 ? ~std::uint64_t{0} : 4096});
        if (!connection.ask(read)) {
            break;
        }
    }
    return done;
}

// The rest of a conversation without its beginning.
bool out_of_order(Attacker& a) {
    bool done = false;
    for (const RequestKind kind :
         {RequestKind::kSegment, RequestKind::kWantMore, RequestKind::kBye, RequestKind::kRead}) {
        Connection connection(a.scene().socket);
        done =
            (connection.open() && connection.send(request_of(kind, a.scene().work_pool))) || done;
        linger(a, std::move(connection), a.about(100ms));
    }
    return done;
}

bool resume_anothers(Attacker& a) {
    bool done = false;
    for (int k = 0; k < 8; ++k) {
        Connection connection(a.scene().socket);
        shm::Request resume = request_of(RequestKind::kResume, a.scene().work_pool);
        payload::put(resume, payload::Attachment{.client = a.below(kMostGuessedClient),
                                                 .key = a.random(),
                                                 .token = a.random(),
                                                 .epoch = a.below(4)});
        done = connection.ask_in_vain(a, resume) || done;
        shm::Request bye = request_of(RequestKind::kBye, a.scene().work_pool);
        payload::put(bye, payload::Bye{a.random()});
        connection.send(bye);
    }
    return done;
}

bool administer(Attacker& a) {
    bool done = false;
    for (const RequestKind kind :
         {RequestKind::kGrow, RequestKind::kReclaim, RequestKind::kRepair, RequestKind::kEnd}) {
        Connection connection(a.scene().socket);
        shm::Request request = request_of(kind, a.scene().work_pool);
        if (kind == RequestKind::kEnd) {
            payload::put(request,
                         payload::End{a.below(kMostGuessedClient), a.below(4), a.below(4)});
        } else {
            payload::put(request, payload::Grow{a.below(2) == 0 ? 0 : a.random()});
        }
        done = connection.ask_in_vain(a, request) || done;
    }
    return done;
}

bool half_closed(Attacker& a) {
    Connection connection(a.scene().socket);
    const int how = a.below(2) == 0 ? SHUT_RD : SHUT_WR;
    const bool first = a.below(2) == 0;
    if (first) {
        ::shutdown(connection.fd(), how);
    }
    const bool done = connection.open();
    connection.send(request_of(RequestKind::kStatus));
    if (!first) {
        ::shutdown(connection.fd(), how);
    }
    linger(a, std::move(connection), a.about(500ms));
    return done;
}

constexpr std::array kSocketActs = {
    Act{"connect: silence", Who::kStranger, connect_and_say_nothing},
    Act{"connect: flood", Who::kStranger, connect_as_many_as_it_gets},
    Act{"connect: and leave", Who::kStranger, connect_and_leave},
    Act{"connect: half closed", Who::kStranger, half_closed},
    Act{"message: half", Who::kStranger, half_message},
    Act{"message: huge", Who::kStranger, huge_message},
    Act{"message: empty", Who::kStranger, empty_message},
    Act{"message: random", Who::kStranger, random_message},
    Act{"message: wrong magic", Who::kStranger, wrong_magic},
    Act{"message: wrong version", Who::kStranger, wrong_version},
    Act{"message: unknown kind", Who::kStranger, unknown_kind},
    Act{"message: name without end", Who::kStranger, name_without_end},
    Act{"message: out of order", Who::kStranger, out_of_order},
    Act{"unread: attach", Who::kStranger, attach_unread},
    Act{"unread: status", Who::kStranger, status_unread},
    Act{"unread: list", Who::kStranger, list_unread},
    Act{"unread: inspect", Who::kStranger, inspect_unread},
    Act{"ask: inspect, read", Who::kStranger, inspect_and_read},
    Act{"ask: resume another's", Who::kStranger, resume_anothers},
    Act{"ask: grow, repair, end", Who::kStranger, administer},
};

}  // namespace

std::span<const Act> socket_acts() { return kSocketActs; }

}  // namespace mempool_test
