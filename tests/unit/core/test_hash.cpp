#include "dtrain/core/hash.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace dtrain::core {
namespace {

std::vector<std::byte> numbered_bytes(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>(i * 131 + i / 256);
    }
    return bytes;
}

std::uint64_t hash_in_pieces(std::span<const std::byte> bytes, std::size_t piece) {
    Hash64 hash;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        hash.update(bytes.subspan(at, std::min(piece, bytes.size() - at)));
    }
    return hash.digest();
}

// The value that XXH3 publishes for an empty input.
TEST(Hash, OfAnEmptyInputIsThePublishedOne) {
    EXPECT_EQ(Hash64().digest(), 0x2d06800538d394c2);
    EXPECT_EQ(hash128({}), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, DoesNotDependOnThePieces) {
    for (const std::size_t size : {1U, 240U, 241U, 5000U}) {
        const auto bytes = numbered_bytes(size);
        for (const std::size_t piece : {1U, 3U, 64U, 1000U}) {
            EXPECT_EQ(hash_in_pieces(bytes, piece), hash_in_pieces(bytes, size));
        }
    }
}

TEST(Hash, DependsOnEveryByte) {
    const auto bytes = numbered_bytes(300);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        auto changed = bytes;
        changed[i] ^= std::byte{1};
        EXPECT_NE(hash_in_pieces(changed, 300), hash_in_pieces(bytes, 300));
        EXPECT_NE(hash128(changed), hash128(bytes));
    }
}

} // namespace
} // namespace dtrain::core
