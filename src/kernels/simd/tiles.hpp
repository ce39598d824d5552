// Tiles of c, computed in registers from some rows of a and one panel of b.
#pragma once

#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/table.hpp"

#include "operands.hpp"
#include "simd.hpp"

#include <cstddef>
#include <cstdint>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {

constexpr std::size_t max_tile_rows =
    vector_bytes == 64 ? 14 : 6; // two vectors per row: 28 accumulators in 32 registers, or 12 in 16

template <class Real>
struct TileArguments {
    Elements<Real> a; ///< the first row of the tile
    const Panel<Real>* panel = nullptr;
    const std::size_t* offsets = nullptr; ///< of the leaves
    const std::uint8_t* merges = nullptr;
    std::size_t leaves = 1;
    bool add = false; ///< start with the values in c instead of zero; only for a single leaf
    Real* c = nullptr;
    std::size_t c_stride = 0;
};

template <class Real, std::size_t rows, std::size_t vectors>
using Accumulators = Vector<Real>[rows][vectors];

/// sums += a · b over `depth` inner indices. The sums stay in registers.
template <class Real, std::size_t rows, std::size_t vectors>
[[gnu::always_inline]] inline void accumulate(std::size_t depth, const Real* a, std::size_t a_row_stride,
                                              std::size_t a_col_stride, const Real* b, std::size_t b_stride,
                                              Accumulators<Real, rows, vectors>& sums) noexcept {
    const auto step = [&]() __attribute__((always_inline)) {
        Vector<Real> row[vectors];
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v) {
            row[v] = Native<Real>::load(b + v * Native<Real>::lanes);
        }
#pragma GCC unroll 16
        for (std::size_t r = 0; r < rows; ++r) {
            const Real factor = a[r * a_row_stride];
#pragma GCC unroll 4
            for (std::size_t v = 0; v < vectors; ++v) {
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

template <std::size_t rows, std::size_t vectors, class Action>
[[gnu::always_inline]] inline void for_each_accumulator(Action&& action) noexcept {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v) {
            action(r, v);
        }
    }
}

/// sums += the products of one leaf.
template <class Real, std::size_t rows, std::size_t vectors>
[[gnu::always_inline]] inline void add_leaf(const TileArguments<Real>& arguments, std::size_t leaf,
                                            Accumulators<Real, rows, vectors>& sums) noexcept {
    const std::size_t end = arguments.offsets[leaf + 1];
    for (std::size_t k = arguments.offsets[leaf]; k < end;) {
        const std::size_t depth = smaller(end - k, arguments.panel->piece());
        const Elements<Real>& a = arguments.a;
        accumulate<Real, rows, vectors>(depth, a.data + k * a.col_stride, a.row_stride, a.col_stride,
                                        arguments.panel->at(k, depth), arguments.panel->stride(), sums);
        k += depth;
    }
}

template <class Real>
[[nodiscard, gnu::always_inline]] inline Real* c_at(const TileArguments<Real>& arguments, std::size_t row,
                                                    std::size_t vector) noexcept {
    return arguments.c + row * arguments.c_stride + vector * Native<Real>::lanes;
}

/// A tile of a product with a single leaf.
template <class Real, std::size_t rows, std::size_t vectors>
void chain_tile(const TileArguments<Real>& arguments) noexcept {
    Accumulators<Real, rows, vectors> sums;
    for_each_accumulator<rows, vectors>([&](std::size_t r, std::size_t v) {
        sums[r][v] = arguments.add ? Native<Real>::load(c_at(arguments, r, v)) : Vector<Real>{};
    });
    add_leaf<Real, rows, vectors>(arguments, 0, sums);
    for_each_accumulator<rows, vectors>(
        [&](std::size_t r, std::size_t v) { Native<Real>::store(c_at(arguments, r, v), sums[r][v]); });
}

/// A tile of a product along a tree. Four leaves at a time form a complete subtree in every tree of
/// core/shard_tree.hpp, so they are added without a loop over merges. This keeps most partial sums in registers or at
/// fixed addresses. The partial sums need registers too, so the tile has half as many rows.
template <class Real, std::size_t rows, std::size_t vectors>
void tree_tile(const TileArguments<Real>& arguments) noexcept {
    using Sums = Accumulators<Real, rows, vectors>;
    Sums sums;
    Sums waiting[core::max_tree_depth];
    std::size_t waiting_count = 0;
    const auto start_leaf = [&](std::size_t leaf) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](std::size_t r, std::size_t v) { sums[r][v] = Vector<Real>{}; });
        add_leaf<Real, rows, vectors>(arguments, leaf, sums);
    };
    const auto merge = [&](const Sums& left) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>(
            [&](std::size_t r, std::size_t v) { sums[r][v] = left[r][v] + sums[r][v]; });
    };
    const auto copy_to = [&](Sums & target) __attribute__((always_inline)) {
        for_each_accumulator<rows, vectors>([&](std::size_t r, std::size_t v) { target[r][v] = sums[r][v]; });
    };
    const std::size_t count = arguments.leaves;
    std::size_t leaf = 0;
    do {
        start_leaf(leaf);
        int merges = arguments.merges[leaf];
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
            merges = arguments.merges[leaf] - 2;
        }
        for (; merges > 0; --merges) {
            merge(waiting[--waiting_count]);
        }
        if (leaf + 1 < count) {
            copy_to(waiting[waiting_count++]);
        }
    } while (++leaf < count);
    for_each_accumulator<rows, vectors>(
        [&](std::size_t r, std::size_t v) { Native<Real>::store(c_at(arguments, r, v), sums[r][v]); });
}

template <class Real>
using TileFunction = void (*)(const TileArguments<Real>&) noexcept;

/// The function for a tile is at [rows - 1][vectors - 1].
template <class Real>
constexpr auto chain_tiles = make_tiles<TileFunction<Real>, max_tile_rows, tile_vectors>(
    []<std::size_t rows, std::size_t vectors>() { return chain_tile<Real, rows, vectors>; });
template <class Real>
constexpr auto tree_tiles = make_tiles<TileFunction<Real>, max_tile_rows / 2, tile_vectors>(
    []<std::size_t rows, std::size_t vectors>() { return tree_tile<Real, rows, vectors>; });

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
