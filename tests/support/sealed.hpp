#pragma once

#include "dtrain/core/hash.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::support {

/// The index in what follows the first line of a file from io::to_hdf5, or nothing if it is incomplete.
[[nodiscard]] inline std::string_view index_in(std::string_view contents) {
    constexpr std::string_view end = "end\n";
    const std::size_t found = contents.starts_with(end) ? 0 : contents.find("\nend\n") + 1;
    return contents.substr(0, found + end.size()); // if not found, `found` is 0
}

inline constexpr std::string_view label_2 = "dtrain 2: XXH3-128 of everything after this line: ";
inline constexpr std::string_view label_3 = "dtrain 3: XXH3-128 of what follows, up to the line \"end\": ";

/// A file in the format of io::to_hdf5, or in the previous format without digests of pieces. The first digest is right.
/// An attacker chose everything after it.
[[nodiscard]] inline std::vector<std::byte> sealed(std::string_view contents, std::string_view label = label_2) {
    const std::string_view covered = label == label_2 ? contents : index_in(contents);
    const std::string file =
        std::string(label) + core::hash128(std::as_bytes(std::span(covered))) + "\n" + std::string(contents);
    const auto bytes = std::as_bytes(std::span(file));
    return {bytes.begin(), bytes.end()};
}

/// What follows the digest in a file from io::to_hdf5.
[[nodiscard]] inline std::string contents_of(std::span<const std::byte> file) {
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    return std::string(text.substr(text.find('\n') + 1));
}

} // namespace dtrain::support
