#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/micro_batch.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace dtrain::nn {

/// Where backward passes leave their gradients: one arena per complete subtree of logical shards that this rank owns.
/// What arrives in an arena is the sum over the subtree's shards along the fixed tree (core/shard_tree.hpp), each
/// shard's gradient computed by itself. Each place is final once in a step, and the last places first, so that what is
/// behind the newest one can be sent on while the rest is computed.
///
/// A step may come in several micro-batches. Between them partial sums lie in arenas, one for each level of the tree,
/// and where a shard was cut its sum goes on from what is there: the bits are those of the step in one piece.
template <class Real>
class ShardGradients {
  public:
    /// `subtrees` are ranges of local shards (the rank's first shard is 0); arenas[i] belongs to subtrees[i].
    /// `most_added_up` is the most elements that `add_up` is ever called for. `products` has to outlive this.
    /// `in_parts`: whether a step may come in several micro-batches, which takes memory for partial sums.
    ShardGradients(const std::vector<core::Range>& subtrees, const std::vector<std::span<Real>>& arenas,
                   std::size_t most_added_up, kernels::Products& products, bool in_parts = false)
        : products_(products), in_parts_(in_parts), level_size_(most_added_up) {
        std::size_t depth = 0;
        for (std::size_t i = 0; i < subtrees.size(); ++i) {
            subtrees_.push_back(
                {subtrees[i], core::merges_after_leaves(subtrees[i]), core::levels_of_leaves(subtrees[i]), arenas[i]});
            depth = std::max(depth, std::ranges::max(subtrees_.back().levels));
            if (in_parts_) {
                level_size_ = std::max(level_size_, arenas[i].size());
            }
        }
        scratch_ = core::Buffer<Real>(depth * level_size_);
        begin_whole();
    }

    /// Has `are_final` called with an offset whenever from there on everything is written, about every 256 kB.
    void report_to(std::function<void(std::size_t offset)> are_final) { are_final_ = std::move(are_final); }

    /// What is added from now on belongs to these rows; all of a step's are to come in their order.
    void begin(const MicroBatch& rows) noexcept {
        shards_ = rows.shards;
        continues_ = rows.continues;
        goes_on_ = rows.goes_on;
    }
    /// Or to all rows of the step.
    void begin_whole() noexcept {
        shards_ = {0, local_shards()};
        continues_ = goes_on_ = false;
    }

    /// Sets a matrix at arena[offset...] of every subtree to the tree sum of a(:, shard) · b(shard, :), where the rows
    /// of shard s are the inner indices shards[s] to shards[s + 1], s counted from the first one of the micro-batch.
    void add_product(std::size_t offset, kernels::Factor<Real> a, kernels::Factor<Real> b, ShardOffsets shards) {
        if (!are_final_ || !finishes()) {
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

    /// Sets arena[offset, offset + size) of every subtree to the tree sum of `leaf`, where leaf(shard, out, continues)
    /// writes the gradient of a shard, `size` elements, to `out`, or, if it continues, adds to what it wrote there for
    /// the micro-batch before. `shard` is counted from the first one of the micro-batch.
    template <class Leaf>
    void add_up(std::size_t offset, std::size_t size, Leaf&& leaf) {
        add_leaves(offset, size, leaf);
        if (are_final_ && finishes()) {
            are_final_(offset);
        }
    }

  private:
    struct Subtree {
        core::Range shards;
        std::vector<std::uint8_t> merges;
        std::vector<std::size_t> levels; ///< of its leaves
        std::span<Real> arena;
    };

    [[nodiscard]] std::int64_t local_shards() const noexcept {
        return subtrees_.empty() ? 0 : subtrees_.back().shards.end;
    }
    /// Whether these are the last rows of a step.
    [[nodiscard]] bool finishes() const noexcept { return shards_.end == local_shards() && !goes_on_; }
    /// The shards of a subtree that are in the micro-batch.
    [[nodiscard]] core::Range own_part(const Subtree& subtree) const noexcept {
        const std::int64_t begin = std::max(subtree.shards.begin, shards_.begin);
        return {begin, std::max(begin, std::min(subtree.shards.end, shards_.end))};
    }
    /// That of the first shards is in the arena itself.
    [[nodiscard]] std::span<Real> partial_sum(const Subtree& subtree, std::size_t level, std::size_t offset,
                                              std::size_t size) const noexcept {
        return level == 0 ? subtree.arena.subspan(offset, size)
                          : scratch_.values().subspan((level - 1) * level_size_ + (in_parts_ ? offset : 0), size);
    }

    void add_rows(std::size_t offset, kernels::Factor<Real> a, kernels::Factor<Real> b, ShardOffsets shards) {
        if (shards_ == core::Range{0, local_shards()} && !continues_ && !goes_on_) {
            for (const Subtree& subtree : subtrees_) {
                const kernels::TreeLeaves leaves{shards.subspan(static_cast<std::size_t>(subtree.shards.begin),
                                                                static_cast<std::size_t>(subtree.shards.size()) + 1),
                                                 subtree.merges};
                products_.multiply_along_tree(a, b, leaves, {subtree.arena.data() + offset, a.rows, b.cols});
            }
            return;
        }
        add_leaves(offset, a.rows * b.cols, [&](std::size_t shard, std::span<Real> out, bool continues) {
            const std::size_t first = shards[shard];
            const std::size_t count = shards[shard + 1] - first;
            const kernels::Factor<Real> own_a = a.block(0, a.rows, first, count);
            const kernels::Factor<Real> own_b = b.block(first, count, 0, b.cols);
            const core::MatrixView<Real> product{out.data(), a.rows, b.cols};
            continues ? products_.multiply_add(own_a, own_b, product) : products_.multiply(own_a, own_b, product);
        });
    }

    /// As add_up(), which it does the work of.
    template <class Leaf>
    void add_leaves(std::size_t offset, std::size_t size, Leaf&& leaf) {
        for (const Subtree& subtree : subtrees_) {
            const core::Range own = own_part(subtree);
            for (std::int64_t shard = own.begin; shard < own.end; ++shard) {
                const auto index = static_cast<std::size_t>(shard - subtree.shards.begin);
                std::size_t level = subtree.levels[index];
                std::span<Real> out = partial_sum(subtree, level, offset, size);
                leaf(static_cast<std::size_t>(shard - shards_.begin), out, continues_ && shard == shards_.begin);
                if (goes_on_ && shard + 1 == shards_.end) {
                    break;
                }
                for (std::uint8_t merges = subtree.merges[index]; merges > 0; --merges) {
                    const std::span<const Real> right = out;
                    out = partial_sum(subtree, --level, offset, size);
                    for (std::size_t i = 0; i < size; ++i) {
                        out[i] += right[i];
                    }
                }
            }
        }
    }

    kernels::Products& products_;
    bool in_parts_;
    std::size_t level_size_;
    std::vector<Subtree> subtrees_;
    core::Buffer<Real> scratch_; ///< the partial sums of the levels behind the first
    core::Range shards_;         ///< of the micro-batch, as the next two
    bool continues_ = false;
    bool goes_on_ = false;
    std::function<void(std::size_t)> are_final_;
};

} // namespace dtrain::nn
