#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/nn/shard_gradients.hpp"

#include "support/products.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace dtrain::nn {
namespace {

constexpr std::size_t size = 19;
using Gradient = std::vector<float>;

/// Numbers of very different magnitudes, so that nearly every other order of addition changes the bits.
std::vector<Gradient> draw_gradients(std::int64_t shards) {
    std::vector<Gradient> gradients;
    for (std::int64_t shard = 0; shard < shards; ++shard) {
        core::RandomStream random(1, core::Purpose::initialisation, 0, static_cast<std::uint64_t>(shard));
        Gradient gradient(size);
        for (float& value : gradient) {
            const double magnitude = static_cast<double>(1 << random.below(12));
            value = static_cast<float>((2 * random.uniform() - 1) * magnitude);
        }
        gradients.push_back(gradient);
    }
    return gradients;
}

Gradient plus(Gradient left, const Gradient& right) {
    for (std::size_t i = 0; i < left.size(); ++i) {
        left[i] += right[i];
    }
    return left;
}

/// The tree sum by its definition.
Gradient tree_sum(const std::vector<Gradient>& gradients, core::Range node) {
    if (node.size() == 1) {
        return gradients[static_cast<std::size_t>(node.begin)];
    }
    const std::int64_t middle = core::split_node(node);
    return plus(tree_sum(gradients, {node.begin, middle}), tree_sum(gradients, {middle, node.end}));
}

/// The sum of the ranks' subtrees along the rest of the tree.
using Subtrees = std::map<std::pair<std::int64_t, std::int64_t>, Gradient>;
Gradient rest_of_tree(const Subtrees& subtrees, core::Range node) {
    if (const auto found = subtrees.find({node.begin, node.end}); found != subtrees.end()) {
        return found->second;
    }
    const std::int64_t middle = core::split_node(node);
    return plus(rest_of_tree(subtrees, {node.begin, middle}), rest_of_tree(subtrees, {middle, node.end}));
}

/// Runs ShardGradients like a rank that owns the shards in `local`.
void add_subtrees(const std::vector<Gradient>& gradients, core::Range local, Subtrees& subtrees) {
    const std::vector<core::Range> nodes = core::complete_subtrees(static_cast<std::int64_t>(gradients.size()), local);
    std::vector<core::Range> local_nodes;
    std::vector<Gradient> arenas(nodes.size(), Gradient(size, std::numeric_limits<float>::quiet_NaN()));
    std::vector<std::span<float>> views(arenas.begin(), arenas.end());
    for (const core::Range& node : nodes) {
        local_nodes.push_back({node.begin - local.begin, node.end - local.begin});
    }
    ShardGradients<float> sums(local_nodes, views, 12);
    const auto leaf_from = [&](std::size_t offset) {
        return [&gradients, local, offset](std::size_t shard, std::span<float> out, bool) {
            const Gradient& gradient = gradients[static_cast<std::size_t>(local.begin) + shard];
            std::copy_n(gradient.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        };
    };
    sums.add_up(0, 12, leaf_from(0)); // a tensor
    sums.add_up(12, size - 12, leaf_from(12));
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        subtrees[{nodes[i].begin, nodes[i].end}] = arenas[i];
    }
}

/// Calls `action` with every way to distribute shards [begin, shards) over ranks that own at least one each.
template <class Action>
void for_every_split(std::int64_t begin, std::int64_t shards, std::vector<core::Range>& ranks, const Action& action) {
    if (begin == shards) {
        action();
        return;
    }
    for (std::int64_t end = begin + 1; end <= shards; ++end) {
        ranks.push_back({begin, end});
        for_every_split(end, shards, ranks, action);
        ranks.pop_back();
    }
}

TEST(ShardGradients, AddUpAlongTheTree) {
    for (std::int64_t shards = 1; shards <= 33; ++shards) {
        const std::vector<Gradient> gradients = draw_gradients(shards);
        Subtrees subtrees;
        add_subtrees(gradients, {0, shards}, subtrees);
        ASSERT_EQ(subtrees.size(), 1U);
        EXPECT_EQ(subtrees.begin()->second, tree_sum(gradients, {0, shards})) << shards << " shards";
    }
}

TEST(ShardGradients, GiveTheSameBitsForAnyDistributionOfShardsOverRanks) {
    for (std::int64_t shards = 1; shards <= 9; ++shards) {
        const std::vector<Gradient> gradients = draw_gradients(shards);
        const Gradient expected = tree_sum(gradients, {0, shards});
        std::vector<core::Range> ranks;
        int splits = 0;
        for_every_split(0, shards, ranks, [&] {
            ++splits;
            Subtrees subtrees;
            for (const core::Range& local : ranks) {
                add_subtrees(gradients, local, subtrees);
            }
            EXPECT_EQ(rest_of_tree(subtrees, {0, shards}), expected) << shards << " shards, split " << splits;
        });
        EXPECT_EQ(splits, 1 << (shards - 1));
    }
}

// Otherwise the tests above would prove nothing.
TEST(ShardGradients, TestDataDistinguishOrdersOfAddition) {
    const std::vector<Gradient> gradients = draw_gradients(8);
    Gradient in_a_row = gradients[0];
    for (std::size_t shard = 1; shard < 8; ++shard) {
        in_a_row = plus(in_a_row, gradients[shard]);
    }
    EXPECT_NE(in_a_row, tree_sum(gradients, {0, 8}));
}

} // namespace
} // namespace dtrain::nn
