#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/kernels/feature_maps.hpp"
#include "dtrain/nn/shard_gradients.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

namespace dtrain::nn {

/// How the samples of a batch are stored in a layer's matrices.
///
/// `rows`: a sample is a row. `interleaved`: a row is a block of samples, stored feature by feature
/// (kernels/feature_maps.hpp). The samples of a shard form groups of eight; zeros fill up the last group. A group
/// belongs to one shard, so groups are the same for any number of ranks. The two groups of a block of floats may belong
/// to different shards.
enum class Arrangement { rows, interleaved };

using kernels::block_lanes;
using kernels::group_rows;

/// The largest batch that a layer must hold at once.
struct Extent {
    std::size_t rows = 0;
    std::size_t shards = 0;
    std::size_t groups = 0;

    /// Enough for `rows` samples in any distribution over `shards` shards.
    [[nodiscard]] static Extent of(std::size_t rows, std::size_t shards) noexcept {
        return {rows, shards, rows / group_rows + shards};
    }
    template <class Real>
    [[nodiscard]] std::size_t blocks() const noexcept {
        return (groups * group_rows + block_lanes<Real> - 1) / block_lanes<Real>;
    }
    /// The number of values that samples of `width` features need.
    template <class Real>
    [[nodiscard]] std::size_t values(Arrangement arrangement, std::size_t width) const noexcept {
        return width * (arrangement == Arrangement::rows ? rows : blocks<Real>() * block_lanes<Real>);
    }
    [[nodiscard]] Extent larger(const Extent& other) const noexcept {
        return {std::max(rows, other.rows), std::max(shards, other.shards), std::max(groups, other.groups)};
    }
};

/// Computes the groups of each local shard: groups[s] to groups[s + 1] - 1 belong to shard s. groups.size() is
/// shards.size().
void find_groups(ShardOffsets shards, std::span<std::size_t> groups) noexcept;

/// Rearranges rows (N × width) into blocks (number of blocks × (width · lanes)). Fills incomplete groups with zeros.
template <class Real>
void interleave(core::MatrixView<const Real> rows, ShardOffsets shards, core::MatrixView<Real> blocks) noexcept;
/// The inverse of interleave().
template <class Real>
void deinterleave(core::MatrixView<const Real> blocks, ShardOffsets shards, core::MatrixView<Real> rows) noexcept;

} // namespace dtrain::nn
