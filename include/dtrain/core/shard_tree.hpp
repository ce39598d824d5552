#pragma once

#include "dtrain/core/partition.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dtrain::core {

/// Where a node of the summation tree over logical shards is divided: the left child takes the largest power of two
/// that is smaller than the node. The shape depends on the number of shards alone, which makes the sum of float
/// gradients along it the same bits however shards are spread over ranks.
[[nodiscard]] constexpr std::int64_t split_node(Range node) noexcept {
    return node.begin + static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(node.size() - 1)));
}

/// Levels of additions between a leaf and the node.
[[nodiscard]] constexpr std::size_t tree_depth(Range node) noexcept {
    return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(node.size() - 1)));
}

/// The depth of the largest tree that a config may ask for, of 2^16 shards.
inline constexpr std::size_t max_tree_depth = 16;

/// The tree over `node` as a program for a stack of partial sums: after leaf l is pushed, the newest two sums are
/// replaced by their sum merges[l] times. What is left in the end is the sum over the node.
[[nodiscard]] std::vector<std::uint8_t> merges_after_leaves(Range node);

/// How many partial sums there are when each leaf of `node` is pushed.
[[nodiscard]] std::vector<std::size_t> levels_of_leaves(Range node);

/// The fewest nodes of the tree over [0, shards) that together cover exactly `part`, in ascending order.
[[nodiscard]] std::vector<Range> complete_subtrees(std::int64_t shards, Range part);

} // namespace dtrain::core
