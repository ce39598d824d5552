#include "dtrain/core/matrix.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace dtrain::core {
namespace {

static_assert(!std::is_copy_constructible_v<Buffer<float>> && std::is_nothrow_move_constructible_v<Buffer<float>>);
static_assert(!std::is_convertible_v<MatrixView<const float>, MatrixView<float>>);

TEST(Buffer, IsZeroedAndBeginsOnACacheLine) {
    for (const std::size_t size : {1U, 15U, 16U, 1001U}) {
        const Buffer<float> buffer(size);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0U);
        EXPECT_EQ(buffer.values().size(), size);
        EXPECT_TRUE(std::ranges::all_of(buffer.values(), [](float value) { return value == 0; }));
    }
}

TEST(Buffer, LeavesAnEmptySourceWhenMoved) {
    Buffer<int> from(3);
    from.data()[1] = 7;
    int* const memory = from.data();
    Buffer<int> to(std::move(from));
    EXPECT_EQ(to.data(), memory);
    EXPECT_EQ(from.size(), 0U); // NOLINT(bugprone-use-after-move): the test is about it
    EXPECT_EQ(from.data(), nullptr);
    Buffer<int> assigned(1);
    assigned = std::move(to);
    EXPECT_EQ(assigned.size(), 3U);
    EXPECT_EQ(assigned.data()[1], 7);
    EXPECT_EQ(to.size(), 0U);
}

TEST(MatrixView, IsRowMajor) {
    Buffer<int> buffer(12);
    for (int i = 0; i < 12; ++i) {
        buffer.data()[i] = i;
    }
    const MatrixView<const int> matrix = buffer.matrix(4, 3);
    EXPECT_EQ(matrix.row(2)[1], 7);
    const MatrixView<const int> block = matrix.block(1, 2);
    EXPECT_EQ(block.rows, 2U);
    EXPECT_EQ(block.row(0)[0], 3);
    EXPECT_EQ(block.values().size(), 6U);
    EXPECT_FALSE(block.is_null());
    EXPECT_TRUE(MatrixView<int>{}.is_null());
}

} // namespace
} // namespace dtrain::core
