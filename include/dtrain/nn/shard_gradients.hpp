#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/micro_batch.hpp"
#include "dtrain/nn/parameters.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace dtrain::nn {

/// Collects the gradients of backward passes. There is one flat buffer (arena) per complete subtree of logical shards
/// that this rank owns. A buffer receives the sum of the gradients of the subtree's shards, added along the fixed tree
/// (core/shard_tree.hpp). A step fills the buffers from the end to the beginning. So the final part at the end can be
/// reduced over ranks while the rest is still being computed.
///
/// A step may be cut into several micro-batches. Between them, partial sums are kept in scratch memory for each level
/// of the tree. If a shard is cut, the next micro-batch continues its sum. The result is bitwise identical to a step in
/// one piece.
///
/// Gradients can be compressed: every node of the tree, leaves included, is then rounded to bfloat16. A leaf is rounded
/// when all rows of its shard are added up. So the value of a node depends neither on ranks nor on micro-batches.
template <class Real>
class ShardGradients {
  public:
    /// `subtrees` are ranges of local shards (the rank's first shard is 0). arenas[i] is the buffer of subtrees[i].
    /// `max_added_up` is the largest `size` for `add_up`. `in_parts` says whether steps may
    /// have several micro-batches; this needs more memory for partial sums. The first `compressed_size` elements of the
    /// arenas are compressed; `max_added_up` must then also be at least max_portion() of the layout.
    ShardGradients(const std::vector<core::Range>& subtrees, const std::vector<std::span<Real>>& arenas,
                   std::size_t max_added_up, bool in_parts = false, std::size_t compressed_size = 0)
        : in_parts_(in_parts), level_size_(max_added_up), compressed_size_(compressed_size) {
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
        begin_all_rows();
    }

    /// Sets a function that is called about every 256 kB: all elements from `offset` to the end are final for this
    /// step.
    void report_to(std::function<void(std::size_t offset)> report_final) { report_final_ = std::move(report_final); }

    /// The next calls of add_product and add_up are for these rows. The micro-batches of a step must come in order.
    void begin(const MicroBatch& rows) noexcept {
        shards_ = rows.shards;
        begins_inside_shard_ = rows.begins_inside_shard;
        ends_inside_shard_ = rows.ends_inside_shard;
    }
    /// The next calls of add_product and add_up are for all rows of the step.
    void begin_all_rows() noexcept {
        shards_ = {0, local_shards()};
        begins_inside_shard_ = ends_inside_shard_ = false;
    }

    /// Computes the gradient of a matrix, a.rows × b.cols, at arena[offset...] of every subtree: the sum of
    /// a(:, shard) · b(shard, :) along the tree. The first micro-batch of a step overwrites the arena's values of the
    /// last step; later micro-batches add to the sums of this step. The inner indices of shard s are shards[s] to
    /// shards[s + 1] - 1, where s counts from the first shard of the micro-batch.
    void add_product(kernels::Products& products, std::size_t offset, kernels::Factor<Real> a, kernels::Factor<Real> b,
                     ShardOffsets shards) {
        const bool reports = report_final_ && finishes();
        if (!reports && !is_compressed(offset)) {
            add_rows(products, offset, a, b, shards);
            return;
        }
        const std::size_t rows = portion_rows(b.cols);
        for (std::size_t begin = (a.rows - 1) / rows * rows;; begin -= rows) {
            const std::size_t place = offset + begin * b.cols;
            add_rows(products, place, a.block(begin, std::min(rows, a.rows - begin), 0, a.cols), b, shards);
            if (reports) {
                report_final_(place);
            }
            if (begin == 0) {
                return;
            }
        }
    }

    /// The largest number of elements that add_product() computes at once in a step with progress reports or
    /// compression.
    [[nodiscard]] static std::size_t max_portion(const ParameterLayout& layout) noexcept {
        std::size_t largest = 0;
        for (const Tensor& tensor : layout.tensors()) {
            const std::size_t rows = tensor.shape.size() > 1 ? tensor.shape[0] : 1;
            const std::size_t cols = tensor.size / rows;
            largest = std::max(largest, std::min(rows, portion_rows(cols)) * cols);
        }
        return largest;
    }

    /// Computes the gradient at arena[offset, offset + size) of every subtree as a sum of leaves along the tree.
    /// Overwrites and adds like add_product().
    /// leaf(shard, out, continues) writes the gradient of a shard, `size` elements, to `out`. If `continues` is true,
    /// it adds to the values in `out` instead, which are from the previous micro-batch. `shard` counts from the first
    /// shard of the micro-batch.
    template <class Leaf>
    void add_up(std::size_t offset, std::size_t size, Leaf&& leaf) {
        add_leaves(offset, size, leaf);
        if (report_final_ && finishes()) {
            report_final_(offset);
        }
    }

  private:
    struct Subtree {
        core::Range shards;
        std::vector<std::uint8_t> merges;
        std::vector<std::size_t> levels; ///< one per leaf, see core::levels_of_leaves
        std::span<Real> arena;
    };

    /// The rows of a portion of about 2^16 elements. Small portions let communication start early, and a compressed one
    /// is rounded while it is in cache. But each portion packs b again.
    [[nodiscard]] static std::size_t portion_rows(std::size_t cols) noexcept {
        constexpr std::size_t portion = std::size_t{1} << 16;
        return std::max<std::size_t>(portion / cols / 64, 1) * 64; // keeps tiles nearly full
    }
    [[nodiscard]] bool is_compressed(std::size_t offset) const noexcept { return offset < compressed_size_; }
    [[nodiscard]] std::int64_t local_shards() const noexcept {
        return subtrees_.empty() ? 0 : subtrees_.back().shards.end;
    }
    /// Whether the micro-batch is the last one of the step.
    [[nodiscard]] bool finishes() const noexcept { return shards_.end == local_shards() && !ends_inside_shard_; }
    /// The shards of a subtree that are in the micro-batch.
    [[nodiscard]] core::Range own_part(const Subtree& subtree) const noexcept {
        const std::int64_t begin = std::max(subtree.shards.begin, shards_.begin);
        return {begin, std::max(begin, std::min(subtree.shards.end, shards_.end))};
    }
    /// Level 0 is stored in the arena itself, the other levels in scratch_.
    [[nodiscard]] std::span<Real> partial_sum(const Subtree& subtree, std::size_t level, std::size_t offset,
                                              std::size_t size) const noexcept {
        return level == 0 ? subtree.arena.subspan(offset, size)
                          : scratch_.values().subspan((level - 1) * level_size_ + (in_parts_ ? offset : 0), size);
    }

    void add_rows(kernels::Products& products, std::size_t offset, kernels::Factor<Real> a, kernels::Factor<Real> b,
                  ShardOffsets shards) {
        const bool is_whole_step =
            shards_ == core::Range{0, local_shards()} && !begins_inside_shard_ && !ends_inside_shard_;
        if (is_whole_step && !is_compressed(offset)) { // a product along the tree does not round
            for (const Subtree& subtree : subtrees_) {
                const kernels::TreeLeaves leaves{shards.subspan(static_cast<std::size_t>(subtree.shards.begin),
                                                                static_cast<std::size_t>(subtree.shards.size()) + 1),
                                                 subtree.merges};
                products.multiply_along_tree(a, b, leaves, {subtree.arena.data() + offset, a.rows, b.cols});
            }
            return;
        }
        add_leaves(offset, a.rows * b.cols, [&](std::size_t shard, std::span<Real> out, bool continues) {
            const std::size_t first = shards[shard];
            const std::size_t count = shards[shard + 1] - first;
            const kernels::Factor<Real> own_a = a.block(0, a.rows, first, count);
            const kernels::Factor<Real> own_b = b.block(first, count, 0, b.cols);
            const core::MatrixView<Real> product{out.data(), a.rows, b.cols};
            continues ? products.multiply_add(own_a, own_b, product) : products.multiply(own_a, own_b, product);
        });
    }

    /// add_up() without the report.
    template <class Leaf>
    void add_leaves(std::size_t offset, std::size_t size, Leaf&& leaf) {
        for (const Subtree& subtree : subtrees_) {
            const core::Range own = own_part(subtree);
            for (std::int64_t shard = own.begin; shard < own.end; ++shard) {
                const auto index = static_cast<std::size_t>(shard - subtree.shards.begin);
                std::size_t level = subtree.levels[index];
                std::span<Real> out = partial_sum(subtree, level, offset, size);
                leaf(static_cast<std::size_t>(shard - shards_.begin), out,
                     begins_inside_shard_ && shard == shards_.begin);
                if (ends_inside_shard_ && shard + 1 == shards_.end) {
                    break;
                }
                if (is_compressed(offset)) {
                    round(out);
                }
                for (std::uint8_t merges = subtree.merges[index]; merges > 0; --merges) {
                    const std::span<const Real> right = out;
                    out = partial_sum(subtree, --level, offset, size);
                    add(out, right, is_compressed(offset));
                }
            }
        }
    }

    static void round(std::span<Real> values) {
        if constexpr (std::same_as<Real, float>) {
            kernels::table().compression.round(values.data(), values.size());
        }
    }
    /// to += values
    static void add(std::span<Real> to, std::span<const Real> values, bool rounded) {
        auto kernel = kernels::network_kernels<Real>().elements.add;
        if constexpr (std::same_as<Real, float>) {
            kernel = rounded ? kernels::table().compression.add : kernel;
        }
        kernel(to.data(), values.data(), to.data(), to.size());
    }

    bool in_parts_;
    std::size_t level_size_;
    std::size_t compressed_size_;
    std::vector<Subtree> subtrees_;
    core::Buffer<Real> scratch_; ///< the partial sums of levels 1, 2, ...
    // The current micro-batch:
    core::Range shards_;
    bool begins_inside_shard_ = false;
    bool ends_inside_shard_ = false;
    std::function<void(std::size_t)> report_final_;
};

} // namespace dtrain::nn
