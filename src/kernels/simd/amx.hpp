// Products of bfloat16 matrices by the tiles of AMX. The operations on tiles are a parameter, because few CPUs have
// them: amx.cpp passes the instructions, and the unit test passes a model of the tiles.
#pragma once

#include "dtrain/kernels/table.hpp"

#include "store_product.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {

/// The operand of LDTILECFG: the shapes of the tiles.
struct alignas(64) TileConfiguration {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {}; ///< of the tiles 0 to 7, then zeros
    std::uint8_t rows[16] = {};       ///< likewise
};
static_assert(sizeof(TileConfiguration) == 64);

/// A block of c is 2 × 2 tiles, so that each tile of a and of b is multiplied twice.
struct AmxTiles {
    static constexpr std::size_t size = 16;      ///< rows of a tile, and columns of a tile of floats
    static constexpr std::size_t row_bytes = 64; ///< of a whole tile
    static constexpr std::size_t block = 2 * size;
    static_assert(size == bfloat16_columns && row_bytes == bfloat16_depth * sizeof(std::uint16_t));

    static constexpr int c(std::size_t i, std::size_t j) noexcept { return static_cast<int>(2 * i + j); }
    static constexpr int a(std::size_t i) noexcept { return static_cast<int>(4 + i); }
    static constexpr int b(std::size_t j) noexcept { return static_cast<int>(6 + j); }

    /// Rows or columns of the first or second tile of a block, which has `total` of them.
    static constexpr std::size_t part(std::size_t total, std::size_t index) noexcept {
        const std::size_t left = total > index * size ? total - index * size : 0;
        return smaller(left, size);
    }
    /// The tiles for blocks of rows × cols elements of c, which have exactly these shapes: no operation touches memory
    /// beyond the edges of the matrices.
    static constexpr TileConfiguration for_block(std::size_t rows, std::size_t cols) noexcept {
        TileConfiguration result;
        const auto set = [&](int tile, std::size_t height, std::size_t width) {
            const bool is_used = height > 0 && width > 0; // a tile with rows but without columns is an error
            result.rows[tile] = static_cast<std::uint8_t>(is_used ? height : 0);
            result.row_bytes[tile] = static_cast<std::uint16_t>(is_used ? width : 0);
        };
        for (std::size_t i = 0; i < 2; ++i) {
            set(a(i), part(rows, i), row_bytes);
            set(b(i), size, part(cols, i) * sizeof(float));
            for (std::size_t j = 0; j < 2; ++j) {
                set(c(i, j), part(rows, i), part(cols, j) * sizeof(float));
            }
        }
        return result;
    }
};

/// Calls action<i>() for i < count.
template <std::size_t count, class Action>
[[gnu::always_inline]] inline void unrolled(Action&& action) noexcept {
    [&]<std::size_t... i>(std::index_sequence<i...>) __attribute__((always_inline)) {
        (action.template operator()<i>(), ...);
    }
    (std::make_index_sequence<count>{});
}

/// The block of c that begins at row i and column j, of height × width tiles.
template <class Unit, std::size_t height, std::size_t width>
void multiply_block(const Bfloat16Product& job, std::size_t i, std::size_t j) noexcept {
    using Tiles = AmxTiles;
    const std::uint16_t* a = job.a + i * job.a_stride;
    const std::uint16_t* b = job.b + j / bfloat16_columns * job.panel_stride;

    unrolled<height>([&]<std::size_t r>() __attribute__((always_inline)) {
        unrolled<width>([&]<std::size_t p>() __attribute__((always_inline)) {
            if (job.start != nullptr) {
                Unit::template load<Tiles::c(r, p)>(job.start + (i + r * Tiles::size) * job.start_stride + j +
                                                        p * Tiles::size,
                                                    job.start_stride * sizeof(float));
            } else {
                Unit::template zero<Tiles::c(r, p)>();
            }
        });
    });
    for (std::size_t step = 0; step < in_whole_steps(job.depth) / bfloat16_depth; ++step) {
        unrolled<height>([&]<std::size_t r>() __attribute__((always_inline)) {
            Unit::template load<Tiles::a(r)>(a + r * Tiles::size * job.a_stride, job.a_stride * sizeof(*a));
        });
        unrolled<width>([&]<std::size_t p>() __attribute__((always_inline)) {
            Unit::template load<Tiles::b(p)>(b + p * job.panel_stride, Tiles::row_bytes);
            unrolled<height>([&]<std::size_t r>() __attribute__((always_inline)) {
                Unit::template multiply_add<Tiles::c(r, p), Tiles::a(r), Tiles::b(p)>();
            });
        });
        a += bfloat16_depth;
        b += bfloat16_depth * bfloat16_columns;
    }
    alignas(64) float product[Tiles::block * Tiles::block];
    const bool is_stored_in_c = job.merges == 0;
    float* const to = is_stored_in_c ? job.c + i * job.c_stride + j : product;
    const std::size_t stride = is_stored_in_c ? job.c_stride : Tiles::block;
    unrolled<height>([&]<std::size_t r>() __attribute__((always_inline)) {
        unrolled<width>([&]<std::size_t p>() __attribute__((always_inline)) {
            Unit::template store<Tiles::c(r, p)>(to + r * Tiles::size * stride + p * Tiles::size,
                                                 stride * sizeof(float));
        });
    });
    if (!is_stored_in_c) {
        store_product(job, i, smaller(Tiles::block, job.rows - i), j, smaller(Tiles::block, job.cols - j), product,
                      stride);
    }
}

/// Rows [i, i_end) and columns [j, j_end) of c: whole blocks, or less than a block in a direction.
template <class Unit>
void multiply_region(const Bfloat16Product& job, std::size_t i, std::size_t i_end, std::size_t j,
                     std::size_t j_end) noexcept {
    if (i == i_end || j == j_end) {
        return;
    }
    const std::size_t rows = smaller(AmxTiles::block, i_end - i);
    const std::size_t cols = smaller(AmxTiles::block, j_end - j);
    constexpr void (*functions[2][2])(const Bfloat16Product&, std::size_t, std::size_t) noexcept = {
        {multiply_block<Unit, 1, 1>, multiply_block<Unit, 1, 2>},
        {multiply_block<Unit, 2, 1>, multiply_block<Unit, 2, 2>}};
    auto* const multiply = functions[rows > AmxTiles::size ? 1 : 0][cols > AmxTiles::size ? 1 : 0];
    Unit::configure(AmxTiles::for_block(rows, cols));
    for (; i < i_end; i += rows) {
        for (std::size_t column = j; column < j_end; column += cols) {
            multiply(job, i, column);
        }
    }
}

/// Bfloat16Kernels::multiply. Blocks of one shape follow each other, because a configuration takes as long as many
/// products of tiles.
template <class Unit>
void multiply_by_tiles(const Bfloat16Product& job) noexcept {
    const std::size_t whole_rows = job.rows / AmxTiles::block * AmxTiles::block;
    const std::size_t whole_cols = job.cols / AmxTiles::block * AmxTiles::block;
    multiply_region<Unit>(job, 0, whole_rows, 0, whole_cols);
    multiply_region<Unit>(job, 0, whole_rows, whole_cols, job.cols);
    multiply_region<Unit>(job, whole_rows, job.rows, 0, whole_cols);
    multiply_region<Unit>(job, whole_rows, job.rows, whole_cols, job.cols);
    Unit::release();
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
