#include "dtrain/nn/interleave.hpp"

#include "dtrain/kernels/instruction_set.hpp"

#include <algorithm>
#include <array>
#include <type_traits>

namespace dtrain::nn {
namespace {

using core::MatrixView;

/// Calls visit(block, rows) for every block. rows[i] points to the matrix row of lane i, or is null if the lane is
/// empty.
template <class Real, class Visit>
void for_each_block(MatrixView<Real> matrix, ShardOffsets shards, Visit&& visit) noexcept {
    constexpr std::size_t lanes = block_lanes<std::remove_const_t<Real>>;
    std::array<Real*, lanes> rows{};
    std::size_t lane = 0;
    std::size_t block = 0;
    for (std::size_t s = 0; s + 1 < shards.size(); ++s) {
        for (std::size_t first = shards[s]; first < shards[s + 1]; first += group_rows) {
            for (std::size_t i = 0; i < group_rows; ++i, ++lane) {
                rows[lane] = first + i < shards[s + 1] ? matrix.row(first + i).data() : nullptr;
            }
            if (lane == lanes) {
                visit(block++, rows);
                lane = 0;
            }
        }
    }
    if (lane > 0) {
        std::fill(rows.begin() + static_cast<std::ptrdiff_t>(lane), rows.end(), nullptr);
        visit(block, rows);
    }
}

} // namespace

void find_groups(ShardOffsets shards, std::span<std::size_t> groups) noexcept {
    groups[0] = 0;
    for (std::size_t s = 0; s + 1 < shards.size(); ++s) {
        groups[s + 1] = groups[s] + (shards[s + 1] - shards[s] + group_rows - 1) / group_rows;
    }
}

template <class Real>
void interleave(MatrixView<const Real> rows, ShardOffsets shards, MatrixView<Real> blocks) noexcept {
    const auto& maps = kernels::network_kernels<Real>().maps;
    for_each_block(rows, shards, [&](std::size_t block, const auto& sources) {
        maps.interleave(sources.data(), rows.cols, blocks.row(block).data());
    });
}

template <class Real>
void deinterleave(MatrixView<const Real> blocks, ShardOffsets shards, MatrixView<Real> rows) noexcept {
    const auto& maps = kernels::network_kernels<Real>().maps;
    for_each_block(rows, shards, [&](std::size_t block, const auto& targets) {
        maps.deinterleave(blocks.row(block).data(), rows.cols, targets.data());
    });
}

template void interleave(MatrixView<const float>, ShardOffsets, MatrixView<float>) noexcept;
template void interleave(MatrixView<const double>, ShardOffsets, MatrixView<double>) noexcept;
template void deinterleave(MatrixView<const float>, ShardOffsets, MatrixView<float>) noexcept;
template void deinterleave(MatrixView<const double>, ShardOffsets, MatrixView<double>) noexcept;

} // namespace dtrain::nn
