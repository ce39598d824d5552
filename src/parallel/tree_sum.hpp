#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::parallel {

/// Sums arrays along the tree over logical shards (core/shard_tree.hpp). The constructor compiles the tree into a list
/// of additions.
class TreeSum {
  public:
    /// `root` is a node of the tree. `leaves` are nodes that together cover it, in ascending order.
    TreeSum(core::Range root, std::span<const core::Range> leaves);

    /// out[i] = the sum of leaves[l][i] over all leaves, for i < size. `out` may be one of the leaves. `rounded`: each
    /// partial sum is rounded to bfloat16. The leaves are not.
    void operator()(std::span<const float* const> leaves, std::size_t size, float* out, bool rounded = false);

  private:
    /// An addition of two operands. Leaf l is encoded as l, and scratch row s as -1 - s. The result of the last
    /// addition goes to the output.
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
