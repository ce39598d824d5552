#pragma once

#include <bit>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <vector>

namespace dtrain::io {

// A file begins with an HDF5 user block, which HDF5 itself skips:
//
//   dtrain 3: XXH3-128 of what follows, up to the line "end": 0123456789abcdef0123456789abcdef
//   attribute i8 epoch 3
//   attribute text config 812                              the text follows, then a newline
//   dataset f4 16x784 /model/01_dense/weight 50176 4016 fedcba9876543210fedcba9876543210
//   bytes 104820                                           of the whole file, for it may have grown, but not shrunk
//   end                                                    zeros up to the user block's end
//
// Behind a dataset's path stand the bytes per piece, then where in the file each piece begins, and its XXH3-128. A
// piece holds whole rows, the last one of a dataset what is left. Values are little-endian. So all that dtrain reads
// has a digest, and what is HDF5's alone has none: other programs change that as soon as they open a file for writing.
inline constexpr int format = 3;
inline constexpr std::string_view label = "dtrain 3: XXH3-128 of what follows, up to the line \"end\": ";
/// Of files that have one digest for everything after the first line, and none for pieces.
inline constexpr std::string_view label_2 = "dtrain 2: XXH3-128 of everything after this line: ";
/// Of files without an index.
inline constexpr std::string_view label_1 = "dtrain: ";
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
