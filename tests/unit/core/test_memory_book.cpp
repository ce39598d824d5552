#include "dtrain/core/memory_book.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace dtrain::core {
namespace {

TEST(MemoryBook, CountsTheBytesThatItAllocates) {
    MemoryBook book;
    Buffer<double> doubles;
    Buffer<std::uint8_t> bytes(3);
    EXPECT_EQ(book.bytes(), 0U);
    book.grant(10, doubles);
    book.grant(7, bytes);
    EXPECT_EQ(book.bytes(), 87U);
    EXPECT_EQ(doubles.size(), 10U);
    EXPECT_EQ(bytes.size(), 7U);
    for (const double value : doubles.values()) {
        EXPECT_EQ(value, 0.0);
    }
    book.grant(0, doubles);
    EXPECT_EQ(book.bytes(), 87U);
    EXPECT_EQ(doubles.size(), 0U);
}

TEST(MemoryBook, CountsWithoutAllocating) {
    MemoryBook book(MemoryBook::Mode::count);
    Buffer<double> doubles(3);
    Buffer<std::uint8_t> bytes;
    book.grant(std::size_t{1} << 50, doubles);
    book.grant(7, bytes, bytes);
    EXPECT_EQ(book.bytes(), (std::size_t{8} << 50) + 14);
    EXPECT_EQ(doubles.size(), 3U);
    EXPECT_EQ(bytes.size(), 0U);
}

} // namespace
} // namespace dtrain::core
