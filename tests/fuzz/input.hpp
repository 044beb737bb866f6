// The fuzzer's bytes as a series of decisions.
//
// Used by the fuzz targets, which start from something valid and let the bytes say what to change:
// so no corpus of binaries is needed, and most inputs get past the first check.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace mempool_fuzz {

class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : at_(data), left_(size) {}

    [[nodiscard]] bool empty() const { return left_ == 0; }

    /// The next bytes as a number; what is missing is zero.
    template <typename Number>
    Number take() {
        Number number{};
        const std::size_t count = std::min(sizeof(number), left_);
        if (count != 0) {
            std::memcpy(&number, at_, count);
        }
        skip(count);
        return number;
    }

    /// The next `most` bytes, or fewer.
    std::string text(std::size_t most) {
        const std::size_t count = std::min(most, left_);
        std::string bytes(reinterpret_cast<const char*>(at_), count);
        skip(count);
        return bytes;
    }

private:
    void skip(std::size_t count) {
        at_ += count;
        left_ -= count;
    }

    const std::uint8_t* at_;
    std::size_t left_;
};

}  // namespace mempool_fuzz
