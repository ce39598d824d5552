#include "dtrain/nn/interleave.hpp"

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
    constexpr std::size_t lanes = block_lanes<Real>;
    for_each_block(rows, shards, [&](std::size_t block, const auto& sources) {
        Real* const out = blocks.row(block).data();
        std::size_t i = 0;
        for (; i + lanes <= rows.cols; i += lanes) {
            typename Block<Real>::Square square;
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                square[lane] =
                    sources[lane] == nullptr ? typename Block<Real>::Vector{} : Block<Real>::load(sources[lane] + i);
            }
            Block<Real>::transpose(square);
            for (std::size_t j = 0; j < lanes; ++j) {
                Block<Real>::store(out + (i + j) * lanes, square[j]);
            }
        }
        for (; i < rows.cols; ++i) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                out[i * lanes + lane] = sources[lane] == nullptr ? Real{0} : sources[lane][i];
            }
        }
    });
}

template <class Real>
void deinterleave(MatrixView<const Real> blocks, ShardOffsets shards, MatrixView<Real> rows) noexcept {
    constexpr std::size_t lanes = block_lanes<Real>;
    for_each_block(rows, shards, [&](std::size_t block, const auto& targets) {
        const Real* const in = blocks.row(block).data();
        std::size_t i = 0;
        for (; i + lanes <= rows.cols; i += lanes) {
            typename Block<Real>::Square square;
            for (std::size_t j = 0; j < lanes; ++j) {
                square[j] = Block<Real>::load(in + (i + j) * lanes);
            }
            Block<Real>::transpose(square);
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                if (targets[lane] != nullptr) {
                    Block<Real>::store(targets[lane] + i, square[lane]);
                }
            }
        }
        for (; i < rows.cols; ++i) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                if (targets[lane] != nullptr) {
                    targets[lane][i] = in[i * lanes + lane];
                }
            }
        }
    });
}

template void interleave(MatrixView<const float>, ShardOffsets, MatrixView<float>) noexcept;
template void interleave(MatrixView<const double>, ShardOffsets, MatrixView<double>) noexcept;
template void deinterleave(MatrixView<const float>, ShardOffsets, MatrixView<float>) noexcept;
template void deinterleave(MatrixView<const double>, ShardOffsets, MatrixView<double>) noexcept;

} // namespace dtrain::nn
