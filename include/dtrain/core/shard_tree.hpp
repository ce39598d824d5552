#pragma once

#include "dtrain/core/partition.hpp"

#include <bit>
#include <cstdint>
#include <vector>

namespace dtrain::core {

/// Where a node of the summation tree over logical shards is divided: the left child takes the largest power of two
/// that is smaller than the node. The shape depends on the number of shards alone, which makes the sum of float
/// gradients along it the same bits however shards are spread over ranks.
[[nodiscard]] constexpr std::int64_t split_node(Range node) noexcept {
    return node.begin + static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(node.size() - 1)));
}

/// The fewest nodes of the tree over [0, shards) that together cover exactly `part`, in ascending order.
[[nodiscard]] std::vector<Range> complete_subtrees(std::int64_t shards, Range part);

} // namespace dtrain::core
