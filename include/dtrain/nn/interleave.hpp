#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/kernels/simd.hpp"
#include "dtrain/nn/shard_gradients.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

namespace dtrain::nn {

/// How the samples of a batch lie in a layer's matrices.
///
/// `rows`: a sample is a row. `interleaved`: a row is a block of samples, feature after feature, each feature's values
/// for all samples of the block side by side as one vector; what is done for one sample is then done for all in the
/// same instruction, without a shuffle, whatever the shape of a layer. The samples of a shard make up groups of eight,
/// the last one filled up with zeros; a block is 64 bytes wide and holds two groups of floats or one of doubles.
/// Groups belong to one shard, so that they are the same on any number of ranks; a block may hold groups of two.
enum class Arrangement { rows, interleaved };

inline constexpr std::size_t group_rows = 8;
template <class Real>
inline constexpr std::size_t block_lanes = 64 / sizeof(Real);
/// One value of every sample of a block.
template <class Real>
using Block = kernels::Simd<Real, sizeof(Real) * block_lanes<Real>>;

/// How much a layer has to hold at once.
struct Extent {
    std::size_t rows = 0;
    std::size_t shards = 0;
    std::size_t groups = 0;

    /// Enough for `rows` samples however they are spread over `shards` shards.
    [[nodiscard]] static Extent of(std::size_t rows, std::size_t shards) noexcept {
        return {rows, shards, rows / group_rows + shards};
    }
    template <class Real>
    [[nodiscard]] std::size_t blocks() const noexcept {
        return (groups * group_rows + block_lanes<Real> - 1) / block_lanes<Real>;
    }
    /// Values that samples of `width` features take.
    template <class Real>
    [[nodiscard]] std::size_t values(Arrangement arrangement, std::size_t width) const noexcept {
        return width * (arrangement == Arrangement::rows ? rows : blocks<Real>() * block_lanes<Real>);
    }
    [[nodiscard]] Extent larger(const Extent& other) const noexcept {
        return {std::max(rows, other.rows), std::max(shards, other.shards), std::max(groups, other.groups)};
    }
};

/// groups[s] to groups[s + 1] become the groups of local shard s.
void find_groups(ShardOffsets shards, std::span<std::size_t> groups) noexcept;

/// blocks (blocks × (width · lanes)) from rows (N × width), zeros where a group is not full.
template <class Real>
void interleave(core::MatrixView<const Real> rows, ShardOffsets shards, core::MatrixView<Real> blocks) noexcept;
/// And back.
template <class Real>
void deinterleave(core::MatrixView<const Real> blocks, ShardOffsets shards, core::MatrixView<Real> rows) noexcept;

} // namespace dtrain::nn
