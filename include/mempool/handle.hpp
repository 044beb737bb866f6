// A slot's name between processes: 64 bits that cross any transport.
#pragma once

#include <compare>
#include <cstdint>

namespace mempool {

/// Names one slot of one pool as it was at one get. It goes stale when the slot is returned.
///
/// `generation:32 | index + 1:32`. Zero names nothing. The pool is not named: both ends know which
/// one they talk about, and a handle of another pool is refused with all but certainty, since
/// every pool counts its generations from a random number. Value type; thread-safe as an integer.
class Handle {
public:
    constexpr Handle() = default;
    /// From bits that value() gave, here or in another process. Any bits are accepted; those that
    /// name no slot are refused when they are used.
    explicit constexpr Handle(std::uint64_t value) noexcept : value_(value) {}
    constexpr Handle(std::uint32_t index, std::uint32_t generation) noexcept
        : value_((std::uint64_t{generation} << 32U) | (index + 1U)) {}

    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }
    /// The slot's index in its pool; meaningless if the handle is empty.
    [[nodiscard]] constexpr std::uint32_t index() const noexcept {
        return static_cast<std::uint32_t>(value_) - 1U;
    }
    [[nodiscard]] constexpr std::uint32_t generation() const noexcept {
        return static_cast<std::uint32_t>(value_ >> 32U);
    }
    /// Whether it names a slot at all.
    explicit constexpr operator bool() const noexcept {
        return static_cast<std::uint32_t>(value_) != 0;
    }
    friend constexpr auto operator<=>(Handle, Handle) = default;

private:
    std::uint64_t value_ = 0;
};

}  // namespace mempool
