#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <optional>
#include <string_view>
#include <system_error>

namespace dtrain::core {

/// The number that the whole of `text` is, without blanks or a plus sign, as std::from_chars reads it; none if it is
/// something else, out of T's range, infinite or not a number. `base` is for whole numbers.
template <class T>
[[nodiscard]] std::optional<T> parse_number(std::string_view text, [[maybe_unused]] int base = 10) noexcept {
    const char* const end = text.data() + text.size();
    T number{};
    std::from_chars_result result{};
    if constexpr (std::integral<T>) {
        result = std::from_chars(text.data(), end, number, base);
    } else {
        result = std::from_chars(text.data(), end, number);
    }
    if (result.ec != std::errc{} || result.ptr != end || !std::isfinite(static_cast<double>(number))) {
        return std::nullopt;
    }
    return number;
}

} // namespace dtrain::core
