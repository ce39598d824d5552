#include "dtrain/nn/interleave.hpp"
#include "dtrain/nn/micro_batch.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

namespace dtrain::nn {
namespace {

/// Each micro-batch as text: "first shard: rows of each shard from first row". A + marks a shard that is cut.
std::vector<std::string> cut(const std::vector<std::size_t>& shards, std::size_t max_rows) {
    std::vector<std::string> parts;
    MicroBatches(max_rows, shards.size() - 1, group_rows).for_each(shards, [&](const MicroBatch& part) {
        std::string text = std::to_string(part.shards.begin) + (part.begins_inside_shard ? "+" : "") + ":";
        for (std::size_t s = 1; s < part.rows.size(); ++s) {
            text += " " + std::to_string(part.rows[s] - part.rows[s - 1]);
        }
        parts.push_back(text + (part.ends_inside_shard ? "+" : "") + " from " + std::to_string(part.first_row));
    });
    return parts;
}

using Parts = std::vector<std::string>;

TEST(MicroBatches, AreOneIfEverythingFits) {
    EXPECT_EQ(cut({0, 5, 5, 12}, 12), Parts{"0: 5 0 7 from 0"});
    EXPECT_EQ(cut({0, 0}, 12), Parts{"0: 0 from 0"});
    EXPECT_EQ(cut({0, 0, 0, 0}, 8), Parts{"0: 0 0 0 from 0"});
}

TEST(MicroBatches, CutShardsBetweenGroups) {
    EXPECT_EQ(cut({0, 20}, 8), (Parts{"0: 8+ from 0", "0+: 8+ from 8", "0+: 4 from 16"}));
    EXPECT_EQ(cut({0, 20}, 15), (Parts{"0: 8+ from 0", "0+: 12 from 8"}));
    EXPECT_EQ(cut({0, 5, 25, 30}, 16), (Parts{"0: 5 8+ from 0", "1+: 12 from 13", "2: 5 from 25"}));
}

TEST(MicroBatches, TakeCompleteShardsIfTheNextGroupDoesNotFit) {
    EXPECT_EQ(cut({0, 5, 10, 15}, 10), (Parts{"0: 5 5 from 0", "2: 5 from 10"}));
    EXPECT_EQ(cut({0, 5, 5, 15}, 12), (Parts{"0: 5 0 from 0", "2: 10 from 5"}));
}

TEST(MicroBatches, IncludeEveryEmptyShard) {
    EXPECT_EQ(cut({0, 0, 8, 16, 16}, 8), (Parts{"0: 0 8 from 0", "2: 8 0 from 8"}));
}

// As in local SGD, which processes each shard separately.
TEST(MicroBatches, BeginAtTheFirstRowOfTheShard) {
    EXPECT_EQ(cut({30, 42}, 8), (Parts{"0: 8+ from 30", "0+: 4 from 38"}));
}

TEST(MicroBatches, HaveAtLeastOneGroup) {
    EXPECT_EQ(cut({0, 9}, 1), (Parts{"0: 8+ from 0", "0+: 1 from 8"}));
}

} // namespace
} // namespace dtrain::nn
