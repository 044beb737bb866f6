// bench_figures: prints one of mempool's own figures.
//
//   bench_figures --list    one line a figure: NAME<tab>UNIT<tab>TITLE
//   bench_figures NAME      its number; exit 77: the library can't do that
//   bench_figures --tail    a table of how long single calls take at the most
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string_view>

#include "figures/figures.hpp"

namespace {

struct Figure {
    const char* name;
    const char* unit;
    const char* title;
    double (*measure)();
};

constexpr Figure kFigures[] = {
    {"pair_steps", "ns", "a pair by mempool's steps, written down in one loop", bench::pair_steps},
    {"step_word", "ns", "so much less without the slot's word and its handle", bench::step_word},
    {"step_thieves", "ns", "without busy and revoked, for thieves", bench::step_thieves},
    {"step_owner", "ns", "without looking whose lane this is, in which process", bench::step_owner},
    {"step_diagnostics", "ns", "without the time of the get and the counters",
     bench::step_diagnostics},
    {"step_options", "ns", "without a look for erase_on_put and for waiters", bench::step_options},
    {"step_address", "ns", "without the slot's address", bench::step_address},
    {"pair_magazine", "ns", "what is left without all of these: count, item, bounds",
     bench::pair_magazine},
    {"wake_put", "µs", "put to the end of another process's get_for", bench::wake_by_put},
    {"wake_futex", "µs", "the same by a bare futex", bench::wake_by_futex},
    {"wake_ratio", "times", "their ratio, measured at once", bench::wake_ratio},
    {"steal", "µs", "first get when all free slots lie in another's caches", bench::steal},
    {"reclaim_10k", "µs", "kill -9 until its 1,000 slots are got again, pool of 10,000",
     bench::reclaim_10k},
    {"reclaim_100k", "µs", "the same, pool of 100,000", bench::reclaim_100k},
    {"reclaim_1m", "µs", "the same, pool of 1,000,000", bench::reclaim_1m},
    {"start", "µs", "start of mempoold to the first client, 1,000,000 slots",
     bench::start_to_first_client},
    {"attach", "µs", "attach, 1,000,000 slots", bench::attach},
    {"grow", "µs", "growth by 100,000 slots of 64 B, asked for", bench::grow},
    {"grow_on_demand", "µs", "the same, from a get_for that finds nothing to its slot",
     bench::grow_on_demand},
    {"client_kib", "KiB", "private memory of a second client, 1,000,000 slots",
     bench::client_memory_kib},
    {"metadata", "bytes", "metadata a slot, 1,000,000 slots", bench::metadata_bytes},
};

constexpr int kExitNotSupported = 77;

}  // namespace

int main(int argc, char** argv) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::alarm(60);
    const std::string_view what = argc == 2 ? argv[1] : "";
    if (what == "--list") {
        for (const Figure& figure : kFigures) {
            std::printf("%s\t%s\t%s\n", figure.name, figure.unit, figure.title);
        }
        return 0;
    }
    try {
        if (what == "--tail") {
            bench::print_tails();
            return 0;
        }
        for (const Figure& figure : kFigures) {
            if (what == figure.name) {
                std::printf("%.4f\n", figure.measure());
                return 0;
            }
        }
    } catch (const bench::NotSupported& e) {
        std::fprintf(stderr, "bench_figures: %s\n", e.what());
        return kExitNotSupported;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench_figures: %.*s: %s\n", static_cast<int>(what.size()),
                     what.data(), e.what());
        return 1;
    }
    std::fprintf(stderr, "usage: bench_figures --list | --tail | FIGURE\n");
    return 2;
}
