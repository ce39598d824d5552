#pragma once

#include "dtrain/core/partition.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dtrain::core {

/// Where a node of the summation tree over logical shards is split. The size of the left child is the largest power of
/// two that is smaller than the size of the node. The shape of the tree depends only on the number of shards. So the
/// sum of float gradients is bitwise identical for any distribution of the shards over ranks. node.size() > 1.
[[nodiscard]] constexpr std::int64_t split_node(Range node) noexcept {
    return node.begin + static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(node.size() - 1)));
}

/// The number of levels of additions between the deepest leaf and the node.
[[nodiscard]] constexpr std::size_t tree_depth(Range node) noexcept {
    return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(node.size() - 1)));
}

/// The depth of the largest tree that a config allows: 2^16 shards.
inline constexpr std::size_t max_tree_depth = 16;

/// The tree over `node` as a program for a stack of partial sums. After leaf l is pushed, replace the top two sums by
/// their sum, merges[l] times. At the end the stack holds only the sum over the node.
[[nodiscard]] std::vector<std::uint8_t> merges_after_leaves(Range node);

/// For each leaf of `node`: the number of partial sums on the stack just before the leaf is pushed.
[[nodiscard]] std::vector<std::size_t> levels_of_leaves(Range node);

/// The smallest set of nodes of the tree over [0, shards) that together cover exactly `part`, in ascending order.
[[nodiscard]] std::vector<Range> complete_subtrees(std::int64_t shards, Range part);

} // namespace dtrain::core
