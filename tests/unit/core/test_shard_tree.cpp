#include "dtrain/core/shard_tree.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace dtrain::core {
namespace {

using Node = std::pair<std::int64_t, std::int64_t>;

void collect_nodes(Range node, std::set<Node>& nodes, std::set<Node>& parents_of_two) {
    nodes.insert({node.begin, node.end});
    if (node.size() > 1) {
        const std::int64_t middle = split_node(node);
        ASSERT_GT(middle, node.begin);
        ASSERT_LT(middle, node.end);
        parents_of_two.insert({node.begin, node.end});
        collect_nodes({node.begin, middle}, nodes, parents_of_two);
        collect_nodes({middle, node.end}, nodes, parents_of_two);
    }
}

TEST(ShardTree, LeftChildIsTheLargestPowerOfTwo) {
    EXPECT_EQ(split_node({0, 2}), 1);
    EXPECT_EQ(split_node({0, 3}), 2);
    EXPECT_EQ(split_node({0, 4}), 2);
    EXPECT_EQ(split_node({0, 5}), 4);
    EXPECT_EQ(split_node({0, 8}), 4);
    EXPECT_EQ(split_node({0, 9}), 8);
    EXPECT_EQ(split_node({8, 13}), 12);
}

TEST(ShardTree, CompleteSubtreesAreTheFewestNodesThatCoverAPart) {
    for (std::int64_t shards = 1; shards <= 33; ++shards) {
        std::set<Node> nodes;
        std::set<Node> inner;
        collect_nodes({0, shards}, nodes, inner);
        for (std::int64_t begin = 0; begin < shards; ++begin) {
            for (std::int64_t end = begin + 1; end <= shards; ++end) {
                const std::vector<Range> found = complete_subtrees(shards, {begin, end});
                std::int64_t at = begin;
                for (const Range& node : found) {
                    EXPECT_EQ(node.begin, at);
                    EXPECT_TRUE(nodes.contains({node.begin, node.end}));
                    at = node.end;
                }
                EXPECT_EQ(at, end);
                // Nodes nest. So a cover has the fewest nodes if no two of them form a larger node.
                for (std::size_t first = 0; first < found.size(); ++first) {
                    for (std::size_t last = first + 1; last < found.size(); ++last) {
                        EXPECT_FALSE(nodes.contains({found[first].begin, found[last].end}))
                            << shards << " shards, [" << begin << ", " << end << ")";
                    }
                }
            }
        }
    }
    EXPECT_EQ(complete_subtrees(8, {0, 8}), (std::vector<Range>{{0, 8}}));
    EXPECT_EQ(complete_subtrees(8, {3, 8}), (std::vector<Range>{{3, 4}, {4, 8}}));
    EXPECT_EQ(complete_subtrees(7, {5, 7}), (std::vector<Range>{{5, 6}, {6, 7}}));
}

} // namespace
} // namespace dtrain::core
