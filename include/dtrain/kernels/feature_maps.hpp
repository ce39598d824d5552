#pragma once

#include <cstddef>

// How convolution and pooling store samples: side by side. A row of a matrix is a block of samples, stored feature by
// feature. The values of one feature for all samples of the block are one vector, so one instruction processes all
// these samples, whatever the shape of the layer. A block is 64 bytes wide on every CPU and holds two groups of eight
// floats or one group of eight doubles. A group belongs to one logical shard.

namespace dtrain::kernels {

inline constexpr std::size_t group_rows = 8;
/// The number of samples in a block.
template <class Real>
inline constexpr std::size_t block_lanes = 64 / sizeof(Real);

/// The shape of a sample's feature maps.
struct Maps {
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;

    [[nodiscard, gnu::always_inline]] std::size_t pixels() const noexcept { return height * width; }
    [[nodiscard, gnu::always_inline]] std::size_t size() const noexcept { return channels * pixels(); }
};

/// The memory positions of the pixels of a block's feature maps: all pixels or every n-th pixel. Strides are in
/// elements.
template <class Value>
struct Pixels {
    Value* first = nullptr;
    std::size_t map_stride = 0;
    std::size_t row_stride = 0;
    std::size_t pixel_stride = 0;

    [[nodiscard, gnu::always_inline]] Value* at(std::size_t row, std::size_t column) const noexcept {
        return first + row * row_stride + column * pixel_stride;
    }
    /// Every `step`-th pixel in both directions, from (row, column) on.
    [[nodiscard]] Pixels every(std::size_t step, std::size_t row, std::size_t column) const noexcept {
        return {at(row, column), map_stride, row_stride * step, pixel_stride * step};
    }
};

/// A convolution with windows of kernel_rows × kernel_cols pixels that are `stride` pixels apart. x includes borders.
template <class Real>
struct Convolution {
    Pixels<const Real> x;
    std::size_t channels = 0;     ///< of x
    const Real* weight = nullptr; ///< y_maps.channels × channels × kernel_rows × kernel_cols
    const Real* bias = nullptr;   ///< y_maps.channels; null counts as zeros
    std::size_t kernel_rows = 0;
    std::size_t kernel_cols = 0;
    std::size_t stride = 1;
    Pixels<Real> y;
    Maps y_maps;
};

/// The gradient of a convolution's weights, for one block, separately for each lane.
template <class Real>
struct WeightGradients {
    const Real* dy = nullptr;
    Maps dy_maps;
    const Real* x = nullptr; ///< includes borders
    Maps x_maps;
    std::size_t kernel = 0;
    std::size_t stride = 1;
    Real* sums = nullptr; ///< dy_maps.channels × x_maps.channels × kernel × kernel × lanes
};

/// Pooling with square windows that do not overlap.
struct Pooling {
    Maps x_maps;
    std::size_t window = 1;
    Maps y_maps;
};

} // namespace dtrain::kernels
