#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dtrain::core {

/// The integers begin, begin + 1, ..., end - 1.
struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    [[nodiscard]] constexpr std::int64_t size() const noexcept { return end - begin; }
    [[nodiscard]] constexpr bool empty() const noexcept { return begin == end; }
    friend constexpr bool operator==(const Range&, const Range&) = default;
};

/// A number that is not negative, as a size in memory.
[[nodiscard]] constexpr std::size_t as_size(std::int64_t value) noexcept {
    return static_cast<std::size_t>(value);
}

/// Cuts [0, total) into `parts` contiguous ranges and returns number `index`. Sizes differ by at most one; the larger
/// ranges come first.
[[nodiscard]] constexpr Range partition(std::int64_t total, std::int64_t parts, std::int64_t index) noexcept {
    const std::int64_t quotient = total / parts;
    const std::int64_t remainder = total % parts;
    const std::int64_t begin = index * quotient + std::min(index, remainder);
    return {begin, begin + quotient + (index < remainder ? 1 : 0)};
}

} // namespace dtrain::core
