#include <unistd.h>

#include <mempool/inspect.hpp>

#include "figures/figures.hpp"

namespace bench {

namespace {

constexpr std::size_t kBegin = 10'000;
constexpr std::size_t kStep = 100'000;

std::string keys() {
    return ",max_slots=" + std::to_string(kBegin + kStep) + ",grow_slots=" + std::to_string(kStep) +
           ",low_watermark=0";
}

}  // namespace

double grow() {
    const Daemon daemon("bench-grow", 64, kBegin, keys());
    auto admin = mempool::Admin::connect(daemon.options());
    const auto start = Clock::now();
    if (admin.grow(daemon.pool(), kStep) == 0) {
        throw std::runtime_error("the pool did not grow");
    }
    return microseconds_since(start);
}

double grow_on_demand() {
    const Daemon daemon("bench-grow", 64, kBegin, keys());
    auto client = daemon.attach();
    std::vector<mempool::Slot> slots(kBegin);
    if (client.get_bulk(slots) != kBegin) {
        throw std::runtime_error("the pool is smaller than it should be");
    }
    const auto start = Clock::now();
    const mempool::Slot slot = client.get_for(std::chrono::seconds{5});
    const double time = microseconds_since(start);
    if (!slot) {
        throw std::runtime_error("the pool did not grow");
    }
    return time;
}

}  // namespace bench
