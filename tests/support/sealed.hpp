#pragma once

#include "dtrain/core/hash.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::support {

/// A file as io::to_hdf5 makes them, its digest being right and everything behind it an attacker's.
[[nodiscard]] inline std::vector<std::byte> sealed(std::string_view contents) {
    const auto bytes = std::as_bytes(std::span(contents));
    const std::string line = "dtrain 2: XXH3-128 of everything after this line: " + core::hash128(bytes) + "\n";
    std::vector<std::byte> file(line.size() + bytes.size());
    std::ranges::copy(std::as_bytes(std::span(line)), file.begin());
    std::ranges::copy(bytes, file.begin() + static_cast<std::ptrdiff_t>(line.size()));
    return file;
}

/// What follows the digest in a file that io::to_hdf5 made.
[[nodiscard]] inline std::string contents_of(std::span<const std::byte> file) {
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    return std::string(text.substr(text.find('\n') + 1));
}

} // namespace dtrain::support
