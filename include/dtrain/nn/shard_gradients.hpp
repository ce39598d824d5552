#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/products.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace dtrain::nn {

/// The rows of a step on one rank, shard after shard: those of local shard s are offsets[s] to offsets[s + 1].
using ShardOffsets = std::span<const std::size_t>;

/// Where backward passes leave their gradients: one arena per complete subtree of logical shards that this rank owns.
/// What arrives in an arena is the sum over the subtree's shards along the fixed tree (core/shard_tree.hpp), each
/// shard's gradient computed by itself. Each place is written once in a step, and the last places first, so that what
/// is behind the newest one can be sent on while the rest is computed.
template <class Real>
class ShardGradients {
  public:
    /// `subtrees` are ranges of local shards (the rank's first shard is 0); arenas[i] belongs to subtrees[i].
    /// `largest` is the most elements that `add_up` is ever called for. `products` has to outlive this.
    ShardGradients(const std::vector<core::Range>& subtrees, const std::vector<std::span<Real>>& arenas,
                   std::size_t largest, kernels::Products& products)
        : products_(products), largest_(largest) {
        std::size_t depth = 0;
        for (std::size_t i = 0; i < subtrees.size(); ++i) {
            depth = std::max(depth, core::tree_depth(subtrees[i]));
            subtrees_.push_back({subtrees[i], core::merges_after_leaves(subtrees[i]), arenas[i]});
        }
        scratch_ = core::Buffer<Real>(depth * largest_);
    }

    /// Has `are_final` called with an offset whenever from there on everything is written, about every 256 kB.
    void report_to(std::function<void(std::size_t offset)> are_final) { are_final_ = std::move(are_final); }

    /// Sets a matrix at arena[offset...] of every subtree to the tree sum of a(:, shard) · b(shard, :), where the rows
    /// of shard s are the inner indices shards[s] to shards[s + 1].
    void add_product(std::size_t offset, kernels::Factor<Real> a, kernels::Factor<Real> b, ShardOffsets shards) {
        if (!are_final_) {
            add_rows(offset, a, b, shards);
            return;
        }
        // Elements: few, so that the wire has work early; many, as each portion packs b anew.
        constexpr std::size_t portion = std::size_t{1} << 16;
        const std::size_t rows = std::max<std::size_t>(portion / b.cols / 64, 1) * 64; // whole tiles of the product
        for (std::size_t begin = (a.rows - 1) / rows * rows;; begin -= rows) {
            const std::size_t place = offset + begin * b.cols;
            add_rows(place, a.block(begin, std::min(rows, a.rows - begin), 0, a.cols), b, shards);
            are_final_(place);
            if (begin == 0) {
                return;
            }
        }
    }

    /// Sets arena[offset, offset + size) of every subtree to the tree sum of `leaf`, where leaf(shard, out) writes the
    /// gradient of local shard `shard` to `out`, `size` elements.
    template <class Leaf>
    void add_up(std::size_t offset, std::size_t size, Leaf&& leaf) {
        for (const Subtree& subtree : subtrees_) {
            add_up(subtree.shards, 0, subtree.arena.subspan(offset, size), leaf);
        }
        if (are_final_) {
            are_final_(offset);
        }
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return scratch_.size() * sizeof(Real); } ///< of scratch memory

  private:
    struct Subtree {
        core::Range shards;
        std::vector<std::uint8_t> merges;
        std::span<Real> arena;
    };

    void add_rows(std::size_t offset, kernels::Factor<Real> a, kernels::Factor<Real> b, ShardOffsets shards) {
        for (const Subtree& subtree : subtrees_) {
            const kernels::TreeLeaves leaves{shards.subspan(static_cast<std::size_t>(subtree.shards.begin),
                                                            static_cast<std::size_t>(subtree.shards.size()) + 1),
                                             subtree.merges};
            products_.multiply_along_tree(a, b, leaves, {subtree.arena.data() + offset, a.rows, b.cols});
        }
    }

    template <class Leaf>
    void add_up(core::Range node, std::size_t depth, std::span<Real> out, Leaf& leaf) {
        if (node.size() == 1) {
            leaf(static_cast<std::size_t>(node.begin), out);
            return;
        }
        const std::int64_t middle = core::split_node(node);
        add_up({node.begin, middle}, depth + 1, out, leaf);
        const std::span<Real> right = scratch_.values().subspan(depth * largest_, out.size());
        add_up({middle, node.end}, depth + 1, right, leaf);
        for (std::size_t i = 0; i < out.size(); ++i) {
            out[i] += right[i];
        }
    }

    kernels::Products& products_;
    std::vector<Subtree> subtrees_;
    std::size_t largest_;
    core::Buffer<Real> scratch_; ///< one partial sum for each level of the tree
    std::function<void(std::size_t)> are_final_;
};

} // namespace dtrain::nn
