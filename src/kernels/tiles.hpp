// Tiles of c, computed in registers from some rows of a and one panel of b.
#pragma once

#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/kernels/simd.hpp"

#include "operands.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace dtrain::kernels::exact {

constexpr int max_tile_rows =
    vector_bytes == 64 ? 14 : 6; // two vectors per row: 28 accumulators in 32 registers, or 12 in 16

template <class Real>
struct TileArguments {
    TileRows<Real> a;
    const Panel<Real>* panel = nullptr;
    TreeLeaves leaves;
    bool add = false; ///< start with the values in c instead of zero; only for a single leaf
    Real* c = nullptr;
    std::size_t c_stride = 0;
};

template <class Real, int rows, int vectors>
using Accumulators = Vector<Real>[rows][vectors];

/// sums += a · b over `depth` inner indices. The sums stay in registers.
template <class Real, int rows, int vectors>
[[gnu::always_inline]] inline void accumulate(std::size_t depth, const Real* a, std::size_t a_row_stride,
                                              std::size_t a_col_stride, const Real* b, std::size_t b_stride,
                                              Accumulators<Real, rows, vectors>& sums) noexcept {
    const auto step = [&]() __attribute__((always_inline)) {
        Vector<Real> row[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            row[v] = Native<Real>::load(b + static_cast<std::size_t>(v) * Native<Real>::lanes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const Real factor = a[static_cast<std::size_t>(r) * a_row_stride];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) {
                sums[r][v] += factor * row[v];
            }
        }
        a += a_col_stride;
        b += b_stride;
    };
    for (; depth >= 2; depth -= 2) {
        step();
        step();
    }
    if (depth > 0) {
        step();
    }
}

template <int rows, int vectors, class Action>
[[gnu::always_inline]] inline void for_each_accumulator(Action&& action) noexcept {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            action(r, v);
        }
    }
}

/// sums += the products of one leaf.
template <class Real, int rows, int vectors>
[[gnu::always_inline]] inline void add_leaf(const TileArguments<Real>& arguments, std::size_t leaf,
                                            Accumulators<Real, rows, vectors>& sums) noexcept {
    const std::size_t end = arguments.leaves.offsets[leaf + 1];
    for (std::size_t k = arguments.leaves.offsets[leaf]; k < end;) {
        const std::size_t depth = std::min(end - k, arguments.panel->piece());
        const TileRows<Real>& a = arguments.a;
        accumulate<Real, rows, vectors>(depth, a.data + k * a.col_stride, a.row_stride, a.col_stride,
                                        arguments.panel->at(k, depth), arguments.panel->stride(), sums);
        k += depth;
    }
}

template <class Real>
[[nodiscard]] Real* c_at(const TileArguments<Real>& arguments, int row, int vector) noexcept {
    return arguments.c + static_cast<std::size_t>(row) * arguments.c_stride +
           static_cast<std::size_t>(vector) * Native<Real>::lanes;
}

/// A tile of a product with a single leaf.
template <class Real, int rows, int vectors>
void chain_tile(const TileArguments<Real>& arguments) noexcept {
    Accumulators<Real, rows, vectors> sums;
    for_each_accumulator<rows, vectors>(
        [&](int r, int v) { sums[r][v] = arguments.add ? Native<Real>::load(c_at(arguments, r, v)) : Vector<Real>{}; });
    add_leaf<Real, rows, vectors>(arguments, 0, sums);
    for_each_accumulator<rows, vectors>([&](int r, int v) { Native<Real>::store(c_at(arguments, r, v), sums[r][v]); });
}

/// A tile of a product along a tree. Four leaves at a time form a complete subtree in every tree of
/// core/shard_tree.hpp, so they are added without a loop over merges. This keeps most partial sums in registers or at
/// fixed addresses. The partial sums need registers too, so the tile has half as many rows.
template <class Real, int rows, int vectors>
void tree_tile(const TileArguments<Real>& arguments) noexcept {
    using Sums = Accumulators<Real, rows, vectors>;
    Sums sums;
    Sums waiting[core::max_tree_depth];
    std::size_t waiting_count = 0;
    const auto start_leaf = [&](std::size_t leaf) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](int r, int v) { sums[r][v] = Vector<Real>{}; });
        add_leaf<Real, rows, vectors>(arguments, leaf, sums);
    };
    const auto merge = [&](const Sums& left) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](int r, int v) { sums[r][v] = left[r][v] + sums[r][v]; });
    };
    const auto copy_to = [&](Sums & target) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](int r, int v) { target[r][v] = sums[r][v]; });
    };
    const std::size_t count = arguments.leaves.merges.size();
    std::size_t leaf = 0;
    do {
        start_leaf(leaf);
        int merges = arguments.leaves.merges[leaf];
        if (leaf + 3 < count) {
            Sums single;
            Sums pair;
            copy_to(single);
            start_leaf(++leaf);
            merge(single);
            copy_to(pair);
            start_leaf(++leaf);
            copy_to(single);
            start_leaf(++leaf);
            merge(single);
            merge(pair);
            merges = arguments.leaves.merges[leaf] - 2;
        }
        for (; merges > 0; --merges) {
            merge(waiting[--waiting_count]);
        }
        if (leaf + 1 < count) {
            copy_to(waiting[waiting_count++]);
        }
    } while (++leaf < count);
    for_each_accumulator<rows, vectors>([&](int r, int v) { Native<Real>::store(c_at(arguments, r, v), sums[r][v]); });
}

template <class Real>
using TileFunction = void (*)(const TileArguments<Real>&) noexcept;

/// The function for a tile is at [vectors - 1][rows - 1].
template <class Real>
constexpr auto chain_tiles = []<int... row>(std::integer_sequence<int, row...>) {
    return std::array<std::array<TileFunction<Real>, sizeof...(row)>, tile_vectors>{
        {{chain_tile<Real, row + 1, 1>...}, {chain_tile<Real, row + 1, 2>...}}};
}
(std::make_integer_sequence<int, max_tile_rows>{});
template <class Real>
constexpr auto tree_tiles = []<int... row>(std::integer_sequence<int, row...>) {
    return std::array<std::array<TileFunction<Real>, sizeof...(row)>, tile_vectors>{
        {{tree_tile<Real, row + 1, 1>...}, {tree_tile<Real, row + 1, 2>...}}};
}
(std::make_integer_sequence<int, max_tile_rows / 2>{});

} // namespace dtrain::kernels::exact
