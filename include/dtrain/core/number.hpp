#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <optional>
#include <string_view>
#include <system_error>

namespace dtrain::core {

/// Parses all of `text` as a number, with std::from_chars: no blanks and no plus sign. Returns nothing if the text is
/// not a number, or if the value is out of T's range, infinite or NaN. `base` applies to integers.
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
