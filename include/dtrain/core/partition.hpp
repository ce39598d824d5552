#pragma once

#include <algorithm>
#include <cstdint>

namespace dtrain::core {

/// The numbers begin, begin + 1, ..., end - 1.
struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    [[nodiscard]] constexpr std::int64_t size() const noexcept { return end - begin; }
    [[nodiscard]] constexpr bool empty() const noexcept { return begin == end; }
    friend constexpr bool operator==(const Range&, const Range&) = default;
};

/// Part `index` of [0, total) cut into `parts` contiguous ranges whose sizes differ by at most one, larger ones first.
[[nodiscard]] constexpr Range partition(std::int64_t total, std::int64_t parts, std::int64_t index) noexcept {
    const std::int64_t quotient = total / parts;
    const std::int64_t remainder = total % parts;
    const std::int64_t begin = index * quotient + std::min(index, remainder);
    return {begin, begin + quotient + (index < remainder ? 1 : 0)};
}

} // namespace dtrain::core
