#include "dtrain/train/memory.hpp"

#include <gtest/gtest.h>

#include <cstddef>

namespace dtrain::train {
namespace {

/// Rows of 10 bytes each, and so many bytes of partial sums where they are not all there at once.
std::size_t rows_of_1000(std::size_t left, std::size_t partial_sums) {
    return rows_that_fit(1000, left, [=](std::size_t rows) { return 10 * rows + (rows < 1000 ? partial_sums : 0); });
}

TEST(RowsThatFit, AreAllWhereHalfOfWhatIsLeftIsEnough) {
    EXPECT_EQ(rows_of_1000(20'000, 0), 1000U);
    EXPECT_EQ(rows_of_1000(19'999, 0), 512U);
}

TEST(RowsThatFit, AreAsManyAsHalfOfWhatIsLeftAllows) {
    EXPECT_EQ(rows_of_1000(2 * 2560, 0), 256U);
    EXPECT_EQ(rows_of_1000(2 * 2559, 0), 128U);
    EXPECT_EQ(rows_of_1000(2 * (2560 + 300), 300), 256U);
}

TEST(RowsThatFit, AreAGroupAtLeast) {
    EXPECT_EQ(rows_of_1000(0, 0), 8U);
    EXPECT_EQ(rows_of_1000(2 * 100, 0), 8U);
}

// In many shards of a large network the sums of a step in parts take more than all of its rows.
TEST(RowsThatFit, AreAllWherePartsTakeMore) {
    EXPECT_EQ(rows_of_1000(15'000, 20'000), 1000U);
    EXPECT_EQ(rows_of_1000(15'000, 9'000), 8U);
}

TEST(MemoryRoom, IsSharedOutOnceAllHaveWhatTheyNeed) {
    EXPECT_EQ((MemoryRoom{"", 1000, 400, 3}).left(), 200U);
    EXPECT_EQ((MemoryRoom{"", 1000, 1400, 3}).left(), 0U);
}

} // namespace
} // namespace dtrain::train
