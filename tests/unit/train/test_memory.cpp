#include "dtrain/train/memory.hpp"

#include <gtest/gtest.h>

namespace dtrain::train {
namespace {

TEST(MemoryRoom, IsSharedOutOnceAllHaveWhatTheyNeed) {
    EXPECT_EQ((MemoryRoom{"", 1000, 400, 3}).left(), 200U);
    EXPECT_EQ((MemoryRoom{"", 1000, 1400, 3}).left(), 0U);
}

} // namespace
} // namespace dtrain::train
