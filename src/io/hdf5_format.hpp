#pragma once

#include <bit>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <vector>

namespace dtrain::io {

// A file begins with an HDF5 user block, which HDF5 itself skips:
//
//   dtrain 2: XXH3-128 of everything after this line: 0123456789abcdef0123456789abcdef
//   attribute i8 epoch 3
//   attribute text config 812                              the text follows, then a newline
//   dataset f4 16x784 /model/01_dense/weight 50176 4016    bytes per piece, then where in the file each piece begins
//   end                                                    zeros up to the user block's end
//
// A piece holds whole rows, the last one of a dataset what is left. Values are little-endian.
inline constexpr std::string_view label = "dtrain 2: XXH3-128 of everything after this line: ";
inline constexpr std::string_view earlier_label = "dtrain: ";
inline constexpr std::size_t digest_characters = 32;
inline constexpr std::size_t label_bytes = label.size() + digest_characters + 1;
static_assert(std::endian::native == std::endian::little, "values are copied between files and memory as they are");

/// How the index calls a type of elements: float, double, std::int64_t or std::uint64_t.
template <class T>
constexpr std::string_view type_name() {
    return sizeof(T) == 4 ? "f4" : std::is_floating_point_v<T> ? "f8" : std::is_signed_v<T> ? "i8" : "u8";
}

inline std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> words;
    for (;;) {
        const std::size_t end = text.find(separator);
        words.push_back(text.substr(0, end));
        if (end == std::string_view::npos) {
            return words;
        }
        text.remove_prefix(end + 1);
    }
}

} // namespace dtrain::io
