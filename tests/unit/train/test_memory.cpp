#include "dtrain/train/memory.hpp"
#include "dtrain/train/plan.hpp"

#include <gtest/gtest.h>

namespace dtrain::train {
namespace {

TEST(MemoryRoom, IsDividedAfterAllHaveWhatTheyNeed) {
    EXPECT_EQ((MemoryRoom{"", 1000, 400, 3}).left(), 200U);
    EXPECT_EQ((MemoryRoom{"", 1000, 1400, 3}).left(), 0U);
}

TEST(UsualRows, AreAllRowsOfAStepUpToALimit) {
    EXPECT_EQ(usual_rows(1), 1U);
    EXPECT_EQ(usual_rows(512), 512U);
    EXPECT_EQ(usual_rows(513), 256U);
    EXPECT_EQ(usual_rows(60000), 256U);
}

} // namespace
} // namespace dtrain::train
