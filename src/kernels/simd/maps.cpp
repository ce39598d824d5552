// Convolution, pooling and interleaving of blocks of samples (kernels/feature_maps.hpp). Accumulators of several
// channels and pixels stay in registers, so that each loaded value is used more than once.

#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

template <class Real>
constexpr std::size_t lanes = block_lanes<Real>;
/// A whole block, and the part of it that fits a register. Inner loops process a block in vectors of the CPU's size,
/// one after the other.
template <class Real>
using Block = Simd<Real, 64>;
template <class Real>
using Native = Simd<Real, vector_bytes>;
constexpr bool many_registers = vector_bytes == 64; // 32 instead of 16

// --- y from x ---

constexpr std::size_t max_tile_maps = many_registers ? 6 : 4;
constexpr std::size_t max_tile_pixels = many_registers ? 4 : 3;

template <class Real>
struct ForwardTile {
    const Real* x = nullptr; ///< the first pixel of the first window
    std::size_t x_map_stride = 0, x_row_stride = 0;
    std::size_t x_pixel_stride = 0; ///< distance between windows
    const Real* weight = nullptr;
    std::size_t channels = 0; ///< of x
    std::size_t kernel_rows = 0, kernel_cols = 0;
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
    const std::size_t depth = t.channels * t.kernel_rows * t.kernel_cols; // weights per output channel
    const Real* weight = t.weight;
    for (std::size_t c = 0; c < t.channels; ++c) {
        for (std::size_t u = 0; u < t.kernel_rows; ++u) {
            const Real* x = t.x + c * t.x_map_stride + u * t.x_row_stride;
            for (std::size_t v = 0; v < t.kernel_cols; ++v, x += lanes<Real>, ++weight) {
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
constexpr auto forward_tiles = make_tiles<void (*)(const ForwardTile<Real>&) noexcept, max_tile_maps, max_tile_pixels>(
    []<std::size_t maps, std::size_t pixels>() { return forward_tile<Real, maps, pixels>; });

template <class Real>
void convolve(const Convolution<Real>& job) noexcept {
    ForwardTile<Real> tile;
    tile.x_map_stride = job.x.map_stride;
    tile.x_row_stride = job.x.row_stride;
    tile.x_pixel_stride = job.stride * job.x.pixel_stride;
    tile.channels = job.channels;
    tile.kernel_rows = job.kernel_rows;
    tile.kernel_cols = job.kernel_cols;
    tile.y_map_stride = job.y.map_stride;
    tile.y_pixel_stride = job.y.pixel_stride;
    for (std::size_t i = 0; i < job.y_maps.height; ++i) {
        in_even_parts(job.y_maps.width, max_tile_pixels, [&](std::size_t j, std::size_t pixels) {
            in_even_parts(job.y_maps.channels, max_tile_maps, [&](std::size_t m, std::size_t maps) {
                tile.weight = job.weight + m * job.channels * job.kernel_rows * job.kernel_cols;
                tile.bias = job.bias == nullptr ? nullptr : job.bias + m;
                for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
                    tile.x = job.x.at(i * job.stride, j * job.stride) + lane;
                    tile.y = job.y.at(i, j) + m * job.y.map_stride + lane;
                    forward_tiles<Real>.at[maps - 1][pixels - 1](tile);
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
constexpr auto sum_tiles = make_tiles<void (*)(const SumTile<Real>&) noexcept, max_sum_maps, max_sum_columns>(
    []<std::size_t maps, std::size_t columns>() { return sum_tile<Real, maps, columns>; });

template <class Real>
void sum_weight_gradients(const WeightGradients<Real>& job) noexcept {
    const std::size_t kernel = job.kernel;
    SumTile<Real> tile;
    tile.dy_map_stride = job.dy_maps.pixels() * lanes<Real>;
    tile.x_row_stride = job.stride * job.x_maps.width * lanes<Real>;
    tile.x_pixel_stride = job.stride * lanes<Real>;
    tile.height = job.dy_maps.height;
    tile.width = job.dy_maps.width;
    tile.sum_map_stride = job.x_maps.channels * kernel * kernel * lanes<Real>;
    for (std::size_t c = 0; c < job.x_maps.channels; ++c) {
        for (std::size_t u = 0; u < kernel; ++u) {
            in_even_parts(kernel, max_sum_columns, [&](std::size_t v, std::size_t columns) {
                in_even_parts(job.dy_maps.channels, max_sum_maps, [&](std::size_t m, std::size_t maps) {
                    for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
                        tile.x = job.x + (c * job.x_maps.pixels() + u * job.x_maps.width + v) * lanes<Real> + lane;
                        tile.dy = job.dy + m * tile.dy_map_stride + lane;
                        tile.sums =
                            job.sums + m * tile.sum_map_stride + ((c * kernel + u) * kernel + v) * lanes<Real> + lane;
                        sum_tiles<Real>.at[maps - 1][columns - 1](tile);
                    }
                });
            });
        }
    }
}

/// The sum over dy is its product with ones.
template <class Real>
void sum_bias_gradients(const Real* dy, const Maps& dy_maps, Real* sums) noexcept {
    alignas(64) Real ones[lanes<Real>];
    for (Real& one : ones) {
        one = 1;
    }
    SumTile<Real> tile;
    tile.dy_map_stride = dy_maps.pixels() * lanes<Real>;
    tile.x = ones;
    tile.height = dy_maps.height;
    tile.width = dy_maps.width;
    tile.sum_map_stride = lanes<Real>;
    in_even_parts(dy_maps.channels, max_sum_maps, [&](std::size_t m, std::size_t maps) {
        for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
            tile.dy = dy + m * tile.dy_map_stride + lane;
            tile.sums = sums + m * lanes<Real> + lane;
            sum_tiles<Real>.at[maps - 1][0](tile);
        }
    });
}

/// The sum of `count` vectors, added in pairs.
template <class Real, std::size_t count>
[[gnu::always_inline]] inline typename Native<Real>::Vector
add_in_pairs(const typename Native<Real>::Vector* vectors) noexcept {
    if constexpr (count == 1) {
        return vectors[0];
    } else {
        return add_in_pairs<Real, count / 2>(vectors) + add_in_pairs<Real, count / 2>(vectors + count / 2);
    }
}

/// A register holds the lanes of one sum. Squares of registers are transposed, so that a register holds one lane of
/// several sums. A group has several squares if registers are short; a square has several groups if they are long.
template <class Real>
void add_lanes(const Real* sums, std::size_t count, Real* const* groups, std::size_t group_count) noexcept {
    using Vector = typename Native<Real>::Vector;
    constexpr std::size_t square = Native<Real>::lanes;
    constexpr std::size_t step = square < group_rows ? square : group_rows; // lanes of one group in a square
    constexpr std::size_t parts = group_rows / step;
    for (std::size_t i = 0; i < count; i += square) {
        const std::size_t valid = smaller(square, count - i);
        Vector part_sums[parts];
        for (std::size_t first = 0; first < group_count * group_rows; first += square) {
            typename Native<Real>::Square transposed{};
            for (std::size_t j = 0; j < valid; ++j) {
                transposed[j] = Native<Real>::load(sums + (i + j) * lanes<Real> + first);
            }
            Native<Real>::transpose(transposed);
            for (std::size_t lane = first; lane < first + square; lane += step) {
                const std::size_t part = lane % group_rows / step;
                part_sums[part] = add_in_pairs<Real, step>(transposed.rows + (lane - first));
                const std::size_t g = lane / group_rows;
                if (part + 1 < parts || g >= group_count) {
                    continue;
                }
                const Vector sum = add_in_pairs<Real, parts>(part_sums);
                for (std::size_t j = 0; j < valid; ++j) {
                    groups[g][i + j] = sum[j];
                }
            }
        }
    }
}

// --- pooling ---

/// Calls action(offset of the window in x, offset of its pixel in y) for one vector of samples after the other.
template <class Real, class Action>
[[gnu::always_inline]] inline void for_each_window(const Pooling& job, Action&& action) noexcept {
    std::size_t to = 0;
    for (std::size_t c = 0; c < job.y_maps.channels; ++c) {
        for (std::size_t i = 0; i < job.y_maps.height; ++i) {
            std::size_t from = (c * job.x_maps.height + i * job.window) * job.x_maps.width * lanes<Real>;
            for (std::size_t j = 0; j < job.y_maps.width; ++j, to += lanes<Real>, from += job.window * lanes<Real>) {
                for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
                    action(from + lane, to + lane);
                }
            }
        }
    }
}
/// Calls action(offset from the window's first pixel) for each of its pixels.
template <class Real, class Action>
[[gnu::always_inline]] inline void for_each_pixel(const Pooling& job, Action&& action) noexcept {
    for (std::size_t u = 0; u < job.window; ++u) {
        for (std::size_t v = 0; v < job.window; ++v) {
            action((u * job.x_maps.width + v) * lanes<Real>);
        }
    }
}

template <class Real>
void max_pool(const Pooling& job, const Real* x, Real* y) noexcept {
    using Vector = typename Native<Real>::Vector;
    for_each_window<Real>(
        job, [&](std::size_t from, std::size_t to) __attribute__((always_inline)) {
            Vector largest = Native<Real>::load(x + from);
            for_each_pixel<Real>(
                job, [&](std::size_t pixel) __attribute__((always_inline)) {
                    const Vector value = Native<Real>::load(x + from + pixel);
                    largest = ((value > largest) | (value != value)) ? value : largest; // a NaN stays the maximum
                });
            Native<Real>::store(y + to, largest);
        });
}

template <class Real>
void max_pool_backward(const Pooling& job, const Real* x, const Real* y, const Real* dy, Real* dx) noexcept {
    using Vector = typename Native<Real>::Vector;
    for_each_window<Real>(
        job, [&](std::size_t from, std::size_t to) __attribute__((always_inline)) {
            const Vector largest = Native<Real>::load(y + to);
            Vector left = Native<Real>::load(dy + to);
            for_each_pixel<Real>(
                job, [&](std::size_t pixel) __attribute__((always_inline)) {
                    const auto here = Native<Real>::load(x + from + pixel) == largest;
                    Native<Real>::store(dx + from + pixel, here ? left : Vector{});
                    left = here ? Vector{} : left;
                });
        });
}

template <class Real>
Real window_share(const Pooling& job) noexcept {
    return Real{1} / static_cast<Real>(job.window * job.window);
}

template <class Real>
void mean_pool(const Pooling& job, const Real* x, Real* y) noexcept {
    const Real share = window_share<Real>(job);
    for_each_window<Real>(
        job, [&](std::size_t from, std::size_t to) __attribute__((always_inline)) {
            typename Native<Real>::Vector sum{};
            for_each_pixel<Real>(
                job, [&](std::size_t pixel)
                         __attribute__((always_inline)) { sum += Native<Real>::load(x + from + pixel); });
            Native<Real>::store(y + to, sum * share);
        });
}

template <class Real>
void mean_pool_backward(const Pooling& job, const Real* dy, Real* dx) noexcept {
    const Real share = window_share<Real>(job);
    for_each_window<Real>(
        job, [&](std::size_t from, std::size_t to) __attribute__((always_inline)) {
            const typename Native<Real>::Vector gradient = Native<Real>::load(dy + to) * share;
            for_each_pixel<Real>(
                job, [&](std::size_t pixel)
                         __attribute__((always_inline)) { Native<Real>::store(dx + from + pixel, gradient); });
        });
}

// --- rearrangement ---

template <class Real>
void interleave(const Real* const* rows, std::size_t size, Real* block) noexcept {
    constexpr std::size_t square = Native<Real>::lanes;
    std::size_t i = 0;
    for (; i + square <= size; i += square) {
        for (std::size_t first = 0; first < lanes<Real>; first += square) {
            typename Native<Real>::Square values;
            for (std::size_t lane = 0; lane < square; ++lane) {
                const Real* const row = rows[first + lane];
                values[lane] = row == nullptr ? typename Native<Real>::Vector{} : Native<Real>::load(row + i);
            }
            Native<Real>::transpose(values);
            for (std::size_t j = 0; j < square; ++j) {
                Native<Real>::store(block + (i + j) * lanes<Real> + first, values[j]);
            }
        }
    }
    for (; i < size; ++i) {
        for (std::size_t lane = 0; lane < lanes<Real>; ++lane) {
            block[i * lanes<Real> + lane] = rows[lane] == nullptr ? Real{0} : rows[lane][i];
        }
    }
}

template <class Real>
void deinterleave(const Real* block, std::size_t size, Real* const* rows) noexcept {
    constexpr std::size_t square = Native<Real>::lanes;
    std::size_t i = 0;
    for (; i + square <= size; i += square) {
        for (std::size_t first = 0; first < lanes<Real>; first += square) {
            typename Native<Real>::Square values;
            for (std::size_t j = 0; j < square; ++j) {
                values[j] = Native<Real>::load(block + (i + j) * lanes<Real> + first);
            }
            Native<Real>::transpose(values);
            for (std::size_t lane = 0; lane < square; ++lane) {
                if (rows[first + lane] != nullptr) {
                    Native<Real>::store(rows[first + lane] + i, values[lane]);
                }
            }
        }
    }
    for (; i < size; ++i) {
        for (std::size_t lane = 0; lane < lanes<Real>; ++lane) {
            if (rows[lane] != nullptr) {
                rows[lane][i] = block[i * lanes<Real> + lane];
            }
        }
    }
}

} // namespace

template <class Real>
void fill_maps(MapKernels<Real>& kernels) noexcept {
    kernels = {convolve<Real>,   sum_weight_gradients<Real>, sum_bias_gradients<Real>, add_lanes<Real>,
               max_pool<Real>,   max_pool_backward<Real>,    mean_pool<Real>,          mean_pool_backward<Real>,
               interleave<Real>, deinterleave<Real>};
}
template void fill_maps(MapKernels<float>&) noexcept;
template void fill_maps(MapKernels<double>&) noexcept;

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
