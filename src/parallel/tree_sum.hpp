#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::parallel {

/// Adds arrays up along the tree over logical shards (core/shard_tree.hpp), as a straight-line program made once.
class TreeSum {
  public:
    /// `root` is a node of the tree; `leaves` are nodes that together cover it, in ascending order.
    TreeSum(core::Range root, std::span<const core::Range> leaves);

    /// out[i] = sum over the leaves of leaves[l][i], i < size. `out` may be one of the leaves.
    void operator()(std::span<const float* const> leaves, std::size_t size, float* out);

  private:
    /// Addition of two operands: leaf l as l, scratch row s as -1 - s. The last one's result goes to the output.
    struct Addition {
        int left;
        int right;
        int result;
    };
    int compile(core::Range node, std::span<const core::Range> leaves, int depth);

    std::vector<Addition> program_;
    core::Buffer<float> scratch_;
};

} // namespace dtrain::parallel
