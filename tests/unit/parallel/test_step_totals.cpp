#include "dtrain/parallel/step_totals.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace dtrain::parallel {
namespace {

using Tail = std::array<float, tail_size>;

Tail written(const StepTotals& totals) {
    Tail tail;
    tail.fill(-1);
    write_totals(totals, tail);
    return tail;
}

TEST(StepTotals, AreReadAsTheyWereWritten) {
    const StepTotals totals = read_totals(written({1.5, 123'456'789'012, 1, 2, 3}));
    EXPECT_EQ(totals.cost, 1.5);
    EXPECT_EQ(totals.correct, 123'456'789'012);
    EXPECT_EQ(totals.stop_requests, 1);
    EXPECT_EQ(totals.output_failures, 2);
    EXPECT_EQ(totals.non_finite, 3);
}

// A single float counts up to 2^24 only.
TEST(StepTotals, CountExactlyOverAllShards) {
    constexpr std::size_t shards = std::size_t{1} << 16;
    constexpr std::int64_t correct = (std::int64_t{1} << 23) - 1; // every digit at its maximum
    const Tail one = written({0, correct, 0, 0, 0});
    Tail sum{};
    for (std::size_t shard = 0; shard < shards; ++shard) {
        for (std::size_t i = 0; i < sum.size(); ++i) {
            sum[i] += one[i];
        }
    }
    EXPECT_EQ(read_totals(sum).correct, correct * static_cast<std::int64_t>(shards));
}

TEST(StepTotals, GiveTheReasonOfDivergence) {
    EXPECT_FALSE((StepTotals{1, 0, 0, 0, 0}.divergence()));
    EXPECT_EQ((StepTotals{1, 0, 0, 0, 1}.divergence()), "a parameter is not finite");
    EXPECT_EQ((StepTotals{std::numeric_limits<double>::infinity(), 0, 0, 0, 1}.divergence()), "the cost is inf");
    EXPECT_EQ((StepTotals{std::numeric_limits<double>::quiet_NaN(), 0, 0, 0, 0}.divergence()), "the cost is nan");
}

} // namespace
} // namespace dtrain::parallel
