#pragma once

#include <bit>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <vector>

namespace dtrain::io {

// A file begins with a user block, which the HDF5 library skips. It contains an index as plain text:
//
//   dtrain 3: XXH3-128 of what follows, up to the line "end": 0123456789abcdef0123456789abcdef
//   attribute i8 epoch 3
//   attribute text config 812                              then 812 bytes of text and a newline
//   dataset f4 16x784 /model/01_dense/weight 50176 4016 fedcba9876543210fedcba9876543210
//   bytes 104820                                           size of the file; it may have grown, but not shrunk
//   end                                                    then zeros up to the end of the user block
//
// A dataset has a type, a shape and a path. Then come the bytes per piece and, for each piece, its offset in the file
// and its XXH3-128. A piece has whole rows; the last piece of a dataset may be shorter. Values are little-endian. So
// everything that dtrain reads has a digest. HDF5's own data have no digest, because other programs change them when
// they open a file for writing.
/// The version of the index, which is also in the label.
inline constexpr int index_version = 3;
inline constexpr std::string_view label = "dtrain 3: XXH3-128 of what follows, up to the line \"end\": ";
/// Earlier files with one digest for everything after the first line and none for pieces. They are still read.
inline constexpr std::string_view label_2 = "dtrain 2: XXH3-128 of everything after this line: ";
/// Earlier files without an index. They are not read.
inline constexpr std::string_view label_1 = "dtrain: ";
inline constexpr std::size_t digest_characters = 32;
inline constexpr std::size_t label_bytes = label.size() + digest_characters + 1;
static_assert(std::endian::native == std::endian::little, "values are copied between files and memory as they are");

/// The name of an element type in the index. T is float, double, std::int64_t or std::uint64_t.
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
