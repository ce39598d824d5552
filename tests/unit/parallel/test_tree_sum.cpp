#include "dtrain/core/bfloat16.hpp"
#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"

#include "parallel/tree_sum.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dtrain::parallel {
namespace {

using Values = std::vector<float>;

/// A shard's values, of magnitudes that distinguish orders of addition.
Values draw(std::int64_t shard, std::size_t size) {
    core::RandomStream random(1, core::Purpose::initialisation, 0, static_cast<std::uint64_t>(shard));
    Values values(size);
    for (float& value : values) {
        value = static_cast<float>((2 * random.uniform() - 1) * (1 << random.below(12)));
    }
    return values;
}

/// `rounded`: every node is rounded to bfloat16.
Values tree_sum(core::Range node, std::size_t size, bool rounded = false) {
    const auto finish = [&](Values values) {
        for (float& value : values) {
            value = rounded ? core::from_bfloat16(core::to_bfloat16(value)) : value;
        }
        return values;
    };
    if (node.size() == 1) {
        return finish(draw(node.begin, size));
    }
    const std::int64_t middle = core::split_node(node);
    Values left = tree_sum({node.begin, middle}, size, rounded);
    std::ranges::transform(left, tree_sum({middle, node.end}, size, rounded), left.begin(), std::plus<>());
    return finish(left);
}

/// Adds up the `leaves` of a tree over `shards`, into leaf `into` unless that is negative.
Values add_up(std::int64_t shards, const std::vector<core::Range>& leaves, std::size_t size, int into,
              bool rounded = false) {
    std::vector<Values> operands;
    for (const core::Range& leaf : leaves) {
        operands.push_back(tree_sum(leaf, size, rounded));
    }
    std::vector<const float*> places;
    for (const Values& operand : operands) {
        places.push_back(operand.data());
    }
    Values apart(size, -1.0F);
    Values& out = into < 0 ? apart : operands[static_cast<std::size_t>(into)];
    TreeSum sum({0, shards}, leaves);
    sum(places, size, out.data(), rounded);
    return out;
}

// For any sets of subtrees that the ranks of a run have already summed.
TEST(TreeSum, HasTheSameBitsForAnyLeaves) {
    for (const std::int64_t shards : {1, 2, 3, 5, 8, 13}) {
        for (const std::size_t size : {1U, 16U, 1024U, 2500U}) {
            const Values expected = tree_sum({0, shards}, size);
            const Values rounded = tree_sum({0, shards}, size, true);
            for (int ranks = 1; ranks <= shards; ++ranks) {
                std::vector<core::Range> leaves;
                for (int rank = 0; rank < ranks; ++rank) {
                    std::ranges::copy(core::complete_subtrees(shards, core::partition(shards, ranks, rank)),
                                      std::back_inserter(leaves));
                }
                EXPECT_EQ(add_up(shards, leaves, size, -1), expected) << shards << " shards on " << ranks << " ranks";
                EXPECT_EQ(add_up(shards, leaves, size, -1, true), rounded)
                    << shards << " rounded shards on " << ranks << " ranks";
            }
        }
    }
}

TEST(TreeSum, WritesIntoThePlaceOfAnyLeaf) {
    const std::vector<core::Range> leaves{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}};
    for (int into = 0; into < 5; ++into) {
        EXPECT_EQ(add_up(5, leaves, 1500, into), tree_sum({0, 5}, 1500)) << into;
    }
}

} // namespace
} // namespace dtrain::parallel
