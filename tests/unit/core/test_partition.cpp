#include "dtrain/core/partition.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace dtrain::core {
namespace {

TEST(Partition, CoversTheRangeInOrderWithSizesThatDifferByAtMostOne) {
    for (std::int64_t total = 0; total <= 40; ++total) {
        for (std::int64_t parts = 1; parts <= 12; ++parts) {
            std::int64_t end = 0;
            std::int64_t previous = total;
            for (std::int64_t index = 0; index < parts; ++index) {
                const Range part = partition(total, parts, index);
                EXPECT_EQ(part.begin, end);
                EXPECT_LE(part.size(), previous) << "larger parts come first";
                EXPECT_GE(part.size(), total / parts);
                EXPECT_LE(part.size(), (total + parts - 1) / parts);
                previous = part.size();
                end = part.end;
            }
            EXPECT_EQ(end, total);
        }
    }
}

} // namespace
} // namespace dtrain::core
