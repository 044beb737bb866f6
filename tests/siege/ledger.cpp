#include "siege/ledger.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <system_error>

namespace mempool_test {

void Samples::add(std::uint32_t value) noexcept {
    const std::uint32_t at = count_.fetch_add(1, std::memory_order_relaxed);
    if (at < kMost) {
        values_.at(at).store(value + 1, std::memory_order_relaxed);
    }
}

std::vector<std::uint32_t> Samples::sorted() const {
    std::vector<std::uint32_t> found;
    const std::uint32_t count = std::min(kMost, count_.load());
    for (std::uint32_t k = 0; k < count; ++k) {
        if (const std::uint32_t value = values_.at(k).load(); value != 0) {
            found.push_back(value - 1);
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

std::uint32_t percentile(const std::vector<std::uint32_t>& sorted, double part) {
    if (sorted.empty()) {
        return 0;
    }
    const auto rank =
        static_cast<std::size_t>(std::ceil(part * static_cast<double>(sorted.size())));
    return sorted.at(std::clamp<std::size_t>(rank, 1, sorted.size()) - 1);
}

Ledger& make_ledger() {
    void* shared =
        ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "the ledger");
    }
    return *static_cast<Ledger*>(shared);  // zeros are its beginning
}

}  // namespace mempool_test
