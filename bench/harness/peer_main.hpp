// main() of a measuring program, which has one or a few peers.
//
//   PROGRAM --list                    one line a peer: NAME<tab>processes|threads<tab>bulk|single
//   PROGRAM NAME check                whether the peer is what it claims; exit 77: not installed
//   PROGRAM NAME CASE MILLISECONDS    prints nanoseconds a slot, and how many slots this process
//   did
#pragma once

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <numeric>
#include <span>
#include <string_view>

#include "harness/check.hpp"

namespace bench {

constexpr int kExitNotInstalled = 77;

/// One peer of a program.
struct Peer {
    std::string_view name;
    Kind kind;
    bool bulk;
    double (*measure)(std::string_view what, Clock::duration budget);
    void (*check)();
};

/// The cases' pools. A million bytes an object: 64 of them exceed any cache but the largest.
constexpr Size kSmall{.slot_bytes = 64, .slots = 4096};
constexpr Size kLarge{.slot_bytes = std::size_t{1} << 20U, .slots = 64};
constexpr Size kMany{.slot_bytes = 64, .slots = 100'000};
/// For many parties: none of them runs short.
constexpr Size kWide{.slot_bytes = 64, .slots = 65'000};

template <typename Pool, typename Time>
double measure_parties(const Size& size, int count, Time time) {
    Pool pool(size);
    const auto ns = run_parties(Pool::kKind, count, [&](int index, Meeting& meeting) {
        typename Pool::User user(pool, index);
        return time(user, meeting);
    });
    return std::accumulate(ns.begin(), ns.end(), 0.0) / static_cast<double>(ns.size());
}

/// N of a case PREFIX_N; 0: it is another case.
inline int number_of(std::string_view what, std::string_view prefix) {
    int number = 0;
    if (what.starts_with(prefix)) {
        std::from_chars(what.data() + prefix.size(), what.data() + what.size(), number);
    }
    return number;
}

/// A pool of slots of that size: 64 MiB of them, but at least 4 and at most 4,096.
constexpr Size pool_of(std::size_t slot_bytes) {
    constexpr std::size_t kBytes = std::size_t{64} << 20U;
    return {.slot_bytes = slot_bytes,
            .slots = std::clamp<std::size_t>(kBytes / slot_bytes, 4, 4096)};
}

/// The cases in N parties at once; a negative number: it is none of them.
template <typename Pool>
double measure_at_once(std::string_view what, Clock::duration budget) {
    if (const int parties = number_of(what, "pairs_"); parties > 0) {
        return measure_parties<Pool>(kSmall, parties, [&](auto& user, Meeting& meeting) {
            return time_pairs(user, budget, meeting);
        });
    }
    if (const int parties = number_of(what, "wide_"); parties > 0) {
        return measure_parties<Pool>(kWide, parties, [&](auto& user, Meeting& meeting) {
            return time_pairs(user, budget, meeting);
        });
    }
    if (const int parties = number_of(what, "deep_"); parties > 0) {
        return measure_parties<Pool>(kWide, parties, [&](auto& user, Meeting& meeting) {
            return time_deep(user, budget, meeting);
        });
    }
    // Every sender has a receiver.
    if (const int parties = number_of(what, "cross_1_"); parties > 1) {
        Pool pool(kWide);
        return time_hand_over<1>(pool, parties / 2 * 2, budget);
    }
    if (const int parties = number_of(what, "cross_32_"); parties > 1) {
        Pool pool(kWide);
        return time_hand_over<kBatch>(pool, parties / 2 * 2, budget);
    }
    return -1;
}

/// `Large` is the same peer for objects of 1 MiB, where that is another type.
template <typename Pool, typename Large = Pool>
double measure(std::string_view what, Clock::duration budget) {
    if (const double ns = measure_at_once<Pool>(what, budget); ns >= 0) {
        return ns;
    }
    if (what == "burst") {
        return measure_parties<Pool>(kSmall, 1, [&](auto& user, Meeting& meeting) {
            return time_burst(user, budget, meeting);
        });
    }
    if (what == "stamp") {
        return measure_parties<Pool>(kSmall, 1, [&](auto& user, Meeting& meeting) {
            return time_stamps(user, budget, meeting);
        });
    }
    if (what == "object") {
        return measure_parties<Large>(kLarge, 1, [&](auto& user, Meeting& meeting) {
            return time_objects(user, kLarge.slot_bytes, budget, meeting);
        });
    }
    if (const int bytes = number_of(what, "size_"); bytes > 0) {
        const auto size = static_cast<std::size_t>(bytes);
        return measure_parties<Pool>(pool_of(size), 1, [&](auto& user, Meeting& meeting) {
            return time_objects(user, size, budget, meeting);
        });
    }
    if (what == "held") {
        return measure_parties<Pool>(kMany, 1, [&](auto& user, Meeting& meeting) {
            return time_held(user, 1000, budget, meeting);
        });
    }
    if (what == "hand_over_1" || what == "hand_over_32") {
        Pool pool(kSmall);
        return what == "hand_over_1" ? time_hand_over<1>(pool, 2, budget)
                                     : time_hand_over<kBatch>(pool, 2, budget);
    }
    if constexpr (Bulk<typename Pool::User>) {
        if (what == "bulk") {
            return measure_parties<Pool>(kSmall, 1, [&](auto& user, Meeting& meeting) {
                return time_bulk(user, budget, meeting);
            });
        }
    }
    throw std::runtime_error("no such case: " + std::string(what));
}

template <typename Pool, typename Large = Pool>
constexpr Peer peer(std::string_view name) {
    return {name, Pool::kKind, Bulk<typename Pool::User>, measure<Pool, Large>,
            [] { check<Pool>(kSmall); }};
}

inline int run_peer(std::span<char*> arguments, std::span<const Peer> peers) {
    if (arguments.size() == 2 && std::string_view(arguments[1]) == "--list") {
        for (const Peer& peer : peers) {
            std::printf("%.*s\t%s\t%s\n", static_cast<int>(peer.name.size()), peer.name.data(),
                        peer.kind == Kind::kProcesses ? "processes" : "threads",
                        peer.bulk ? "bulk" : "single");
        }
        return 0;
    }
    for (const Peer& peer : peers) {
        if (arguments.size() < 3 || peer.name != arguments[1]) {
            continue;
        }
        const std::string_view what = arguments[2];
        if (what == "check") {
            peer.check();
            return 0;
        }
        int milliseconds = 0;
        if (arguments.size() == 4) {
            const std::string_view number = arguments[3];
            std::from_chars(number.data(), number.data() + number.size(), milliseconds);
        }
        if (milliseconds > 0) {
            const double ns = peer.measure(what, std::chrono::milliseconds{milliseconds});
            std::printf("%.4f %llu\n", ns, static_cast<unsigned long long>(slots_done.load()));
            return 0;
        }
    }
    std::fprintf(stderr, "usage: %s --list | PEER check | PEER CASE MILLISECONDS\n", arguments[0]);
    return 2;
}

/// A peer that hangs, or whose runner died, ends.
inline int peer_main(int argc, char** argv, std::span<const Peer> peers) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::alarm(60);
    try {
        return run_peer({argv, static_cast<std::size_t>(argc)}, peers);
    } catch (const NotInstalled& e) {
        std::fprintf(stderr, "%s: not installed: %s\n", argv[0], e.what());
        return kExitNotInstalled;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
        return 1;
    }
}

}  // namespace bench
