// The arithmetic of a convolutional layer on interleaved feature maps; convolution.cpp has the formulas. Accumulators
// of several channels and pixels stay in registers, so that each loaded value is used more than once.
#pragma once

#include "dtrain/nn/interleave.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace dtrain::nn::convolution {

template <class Real>
constexpr std::size_t lanes = block_lanes<Real>;
template <class Real>
using Vector = typename Block<Real>::Vector;

/// The inner loops process a block in vectors of the CPU's size, one after the other.
template <class Real>
using Native = kernels::Simd<Real, std::min(kernels::vector_bytes, sizeof(Real) * lanes<Real>)>;
constexpr bool many_registers = kernels::vector_bytes == 64; // 32 instead of 16

/// The shape of a sample's feature maps.
struct Maps {
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;

    [[nodiscard]] std::size_t pixels() const noexcept { return height * width; }
    [[nodiscard]] std::size_t size() const noexcept { return channels * pixels(); }
};

/// The memory positions of the pixels of interleaved feature maps: all pixels or every n-th pixel. Strides are in
/// elements.
template <class Value>
struct Pixels {
    Value* first = nullptr;
    std::size_t map_stride = 0;
    std::size_t row_stride = 0;
    std::size_t pixel_stride = 0;

    Pixels(Value* first_pixel, const Maps& maps) noexcept
        : first(first_pixel), map_stride(maps.pixels() * lanes<std::remove_const_t<Value>>),
          row_stride(maps.width * lanes<std::remove_const_t<Value>>), pixel_stride(lanes<std::remove_const_t<Value>>) {}
    [[nodiscard]] Value* at(std::size_t row, std::size_t column) const noexcept {
        return first + row * row_stride + column * pixel_stride;
    }
    /// Every `step`-th pixel in both directions, from (row, column) on.
    [[nodiscard]] Pixels every(std::size_t step, std::size_t row, std::size_t column) const noexcept {
        Pixels part = *this;
        part.first = at(row, column);
        part.row_stride *= step;
        part.pixel_stride *= step;
        return part;
    }
};

struct Kernel {
    std::size_t rows = 0;
    std::size_t cols = 0;
};

/// Calls action(begin, size) for parts of [0, size) of nearly equal size, at most `max_part`.
template <class Action>
void in_even_parts(std::size_t size, std::size_t max_part, Action&& action) {
    const std::size_t parts = (size + max_part - 1) / max_part;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
        const std::size_t end = size * (part + 1) / parts;
        action(begin, end - begin);
        begin = end;
    }
}

/// The function for a tile of rows × cols accumulators is at [rows - 1][cols - 1].
template <class Function, std::size_t max_rows, std::size_t max_cols>
using Table = std::array<std::array<Function, max_cols>, max_rows>;

/// Entry [rows - 1][cols - 1] is at.operator()<rows, cols>().
template <class Function, std::size_t max_rows, std::size_t max_cols, class At>
constexpr Table<Function, max_rows, max_cols> make_table(At at) {
    Table<Function, max_rows, max_cols> table{};
    [&]<std::size_t... i>(std::index_sequence<i...>) {
        ((table[i / max_cols][i % max_cols] = at.template operator()<i / max_cols + 1, i % max_cols + 1>()), ...);
    }
    (std::make_index_sequence<max_rows * max_cols>{});
    return table;
}

// --- y from x ---

constexpr std::size_t max_tile_maps = many_registers ? 6 : 4;
constexpr std::size_t max_tile_pixels = many_registers ? 4 : 3;

template <class Real>
struct ForwardTile {
    const Real* x = nullptr; ///< the first pixel of the first window
    std::size_t x_map_stride = 0, x_row_stride = 0;
    std::size_t x_pixel_stride = 0; ///< distance between windows
    const Real* weight = nullptr;
    std::size_t maps = 0; ///< input channels
    Kernel kernel;
    const Real* bias = nullptr; ///< zeros if null
    Real* y = nullptr;
    std::size_t y_map_stride = 0, y_pixel_stride = 0;
};

/// Computes `tile_pixels` neighbouring pixels in each of `tile_maps` output channels, for one vector of samples.
template <class Real, std::size_t tile_maps, std::size_t tile_pixels>
void forward_tile(const ForwardTile<Real>& t) noexcept {
    using Vector = typename Native<Real>::Vector;
    Vector sums[tile_maps][tile_pixels];
#pragma GCC unroll 8
    for (std::size_t m = 0; m < tile_maps; ++m) {
#pragma GCC unroll 8
        for (std::size_t j = 0; j < tile_pixels; ++j) {
            sums[m][j] = Vector{} + (t.bias == nullptr ? Real{0} : t.bias[m]);
        }
    }
    const std::size_t depth = t.maps * t.kernel.rows * t.kernel.cols; // weights per output channel
    const Real* weight = t.weight;
    for (std::size_t c = 0; c < t.maps; ++c) {
        for (std::size_t u = 0; u < t.kernel.rows; ++u) {
            const Real* x = t.x + c * t.x_map_stride + u * t.x_row_stride;
            for (std::size_t v = 0; v < t.kernel.cols; ++v, x += lanes<Real>, ++weight) {
                Vector pixels[tile_pixels];
#pragma GCC unroll 8
                for (std::size_t j = 0; j < tile_pixels; ++j) {
                    pixels[j] = Native<Real>::load(x + j * t.x_pixel_stride);
                }
#pragma GCC unroll 8
                for (std::size_t m = 0; m < tile_maps; ++m) {
                    const Real factor = weight[m * depth];
#pragma GCC unroll 8
                    for (std::size_t j = 0; j < tile_pixels; ++j) {
                        sums[m][j] += factor * pixels[j];
                    }
                }
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t m = 0; m < tile_maps; ++m) {
#pragma GCC unroll 8
        for (std::size_t j = 0; j < tile_pixels; ++j) {
            Native<Real>::store(t.y + m * t.y_map_stride + j * t.y_pixel_stride, sums[m][j]);
        }
    }
}

template <class Real>
constexpr auto forward_tiles = make_table<void (*)(const ForwardTile<Real>&) noexcept, max_tile_maps, max_tile_pixels>(
    []<std::size_t maps, std::size_t pixels>() { return forward_tile<Real, maps, pixels>; });

/// Computes the feature maps y of a block (shape y_maps) from x, which has x_maps channels and includes borders. The
/// windows are `stride` pixels apart. A null `bias` counts as zeros.
template <class Real>
void convolve(const Pixels<const Real>& x, std::size_t x_maps, const Real* weight, const Real* bias, Kernel kernel,
              std::size_t stride, const Pixels<Real>& y, const Maps& y_maps) noexcept {
    ForwardTile<Real> tile;
    tile.x_map_stride = x.map_stride;
    tile.x_row_stride = x.row_stride;
    tile.x_pixel_stride = stride * x.pixel_stride;
    tile.maps = x_maps;
    tile.kernel = kernel;
    tile.y_map_stride = y.map_stride;
    tile.y_pixel_stride = y.pixel_stride;
    for (std::size_t i = 0; i < y_maps.height; ++i) {
        in_even_parts(y_maps.width, max_tile_pixels, [&](std::size_t j, std::size_t pixels) {
            in_even_parts(y_maps.channels, max_tile_maps, [&](std::size_t m, std::size_t maps) {
                tile.weight = weight + m * x_maps * kernel.rows * kernel.cols;
                tile.bias = bias == nullptr ? nullptr : bias + m;
                for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
                    tile.x = x.at(i * stride, j * stride) + lane;
                    tile.y = y.at(i, j) + m * y.map_stride + lane;
                    forward_tiles<Real>[maps - 1][pixels - 1](tile);
                }
            });
        });
    }
}

// --- the gradients of weights and biases: sums over pixels, separately for each lane ---

constexpr std::size_t max_sum_maps = many_registers ? 5 : 4;
constexpr std::size_t max_sum_columns = many_registers ? 5 : 3;

template <class Real>
struct SumTile {
    const Real* dy = nullptr;
    std::size_t dy_map_stride = 0;
    const Real* x = nullptr; ///< the pixel that dy's first pixel is multiplied by
    std::size_t x_row_stride = 0, x_pixel_stride = 0;
    std::size_t height = 0, width = 0; ///< of dy
    Real* sums = nullptr;
    std::size_t sum_map_stride = 0;
};

/// sums[m][v] = Σ_pixels dy[m] · x shifted by v pixels, for one vector of samples.
template <class Real, std::size_t tile_maps, std::size_t tile_columns>
void sum_tile(const SumTile<Real>& t) noexcept {
    using Vector = typename Native<Real>::Vector;
    Vector sums[tile_maps][tile_columns] = {};
    for (std::size_t i = 0; i < t.height; ++i) {
        const Real* dy = t.dy + i * t.width * lanes<Real>;
        const Real* x = t.x + i * t.x_row_stride;
        for (std::size_t j = 0; j < t.width; ++j, dy += lanes<Real>, x += t.x_pixel_stride) {
            Vector columns[tile_columns];
#pragma GCC unroll 8
            for (std::size_t v = 0; v < tile_columns; ++v) {
                columns[v] = Native<Real>::load(x + v * lanes<Real>);
            }
#pragma GCC unroll 8
            for (std::size_t m = 0; m < tile_maps; ++m) {
                const Vector factor = Native<Real>::load(dy + m * t.dy_map_stride);
#pragma GCC unroll 8
                for (std::size_t v = 0; v < tile_columns; ++v) {
                    sums[m][v] += factor * columns[v];
                }
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t m = 0; m < tile_maps; ++m) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < tile_columns; ++v) {
            Native<Real>::store(t.sums + m * t.sum_map_stride + v * lanes<Real>, sums[m][v]);
        }
    }
}

template <class Real>
constexpr auto sum_tiles = make_table<void (*)(const SumTile<Real>&) noexcept, max_sum_maps, max_sum_columns>(
    []<std::size_t maps, std::size_t columns>() { return sum_tile<Real, maps, columns>; });

/// Computes the gradients of the weights for one block: sums is M × C·K·K, each a vector of lanes.
template <class Real>
void sum_weight_gradients(const Real* dy, const Maps& dy_maps, const Real* x, const Maps& x_maps, std::size_t kernel,
                          std::size_t stride, Real* sums) noexcept {
    SumTile<Real> tile;
    tile.dy_map_stride = dy_maps.pixels() * lanes<Real>;
    tile.x_row_stride = stride * x_maps.width * lanes<Real>;
    tile.x_pixel_stride = stride * lanes<Real>;
    tile.height = dy_maps.height;
    tile.width = dy_maps.width;
    tile.sum_map_stride = x_maps.channels * kernel * kernel * lanes<Real>;
    for (std::size_t c = 0; c < x_maps.channels; ++c) {
        for (std::size_t u = 0; u < kernel; ++u) {
            in_even_parts(kernel, max_sum_columns, [&](std::size_t v, std::size_t columns) {
                in_even_parts(dy_maps.channels, max_sum_maps, [&](std::size_t m, std::size_t maps) {
                    for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
                        tile.x = x + (c * x_maps.pixels() + u * x_maps.width + v) * lanes<Real> + lane;
                        tile.dy = dy + m * tile.dy_map_stride + lane;
                        tile.sums =
                            sums + m * tile.sum_map_stride + ((c * kernel + u) * kernel + v) * lanes<Real> + lane;
                        sum_tiles<Real>[maps - 1][columns - 1](tile);
                    }
                });
            });
        }
    }
}

/// Computes the gradients of the biases for one block: sums[m] = Σ_pixels dy[m], each a vector of lanes.
template <class Real>
void sum_bias_gradients(const Real* dy, const Maps& dy_maps, Real* sums) noexcept {
    std::array<Real, lanes<Real>> ones;
    ones.fill(1);
    SumTile<Real> tile;
    tile.dy_map_stride = dy_maps.pixels() * lanes<Real>;
    tile.x = ones.data();
    tile.height = dy_maps.height;
    tile.width = dy_maps.width;
    tile.sum_map_stride = lanes<Real>;
    in_even_parts(dy_maps.channels, max_sum_maps, [&](std::size_t m, std::size_t maps) {
        for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
            tile.dy = dy + m * tile.dy_map_stride + lane;
            tile.sums = sums + m * lanes<Real> + lane;
            sum_tiles<Real>[maps - 1][0](tile);
        }
    });
}

/// groups[g][i] = the sum of the lanes of sums[i] that belong to group g of the block, added in a fixed order.
template <class Real>
void add_lanes(const Real* sums, std::size_t count, Real* const* groups, std::size_t group_count) noexcept {
    constexpr std::size_t square = lanes<Real>;
    for (std::size_t i = 0; i < count; i += square) {
        const std::size_t valid = std::min(square, count - i);
        typename Block<Real>::Square transposed{};
        for (std::size_t j = 0; j < valid; ++j) {
            transposed[j] = Block<Real>::load(sums + (i + j) * square);
        }
        Block<Real>::transpose(transposed);
        for (std::size_t g = 0; g < group_count; ++g) {
            const Vector<Real>* const lane = transposed.rows + g * group_rows;
            const Vector<Real> sum =
                ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
            for (std::size_t j = 0; j < valid; ++j) {
                groups[g][i + j] = sum[j];
            }
        }
    }
}

} // namespace dtrain::nn::convolution
