#pragma once

// A convolutional layer, y = f(x ⋆ W + b). As usual in machine learning, ⋆ is a cross-correlation:
//
//   z[m, i, j] = b[m] + Σ_c Σ_u Σ_v W[m, c, u, v] x[c, i S + u − P, j S + v − P],  x = 0 outside
//
// x  C × H × W        input, C channels      dx  ∂C/∂x
// W  M × C × K × K    weight                 dy  ∂C/∂y, then ∂C/∂z
// b  M                bias
// y  M × H' × W'      output, M channels; H' = (H + 2 P − K) / S + 1
//
// Samples are interleaved (nn/interleave.hpp): a vector holds one pixel of several samples. So all lanes are in use for
// any size of feature map, kernel and stride, and each sample has its own chain of fused multiply-adds.

#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/nn/activation.hpp"
#include "dtrain/nn/initialisation.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

namespace dtrain::nn {

/// All pixels of a block's feature maps.
template <class Value>
kernels::Pixels<Value> all_pixels(Value* first, const kernels::Maps& maps) noexcept {
    constexpr std::size_t width = block_lanes<std::remove_const_t<Value>>;
    return {first, maps.pixels() * width, maps.width * width, width};
}

template <class Real>
class Convolution : public Layer<Real> {
  protected:
    using Maps = kernels::Maps;
    template <class Value>
    using Pixels = kernels::Pixels<Value>;
    template <class T>
    using Buffer = core::Buffer<T>;
    template <class T>
    using MatrixView = core::MatrixView<T>;
    static constexpr std::size_t lanes = block_lanes<Real>;

  public:
    Convolution(const Maps& input, const Maps& output, std::size_t kernel, std::size_t padding, std::size_t stride,
                Activation activation, const LayerArguments& arguments)
        : Layer<Real>(arguments.label), input_(input), output_(output), kernel_(kernel), padding_(padding),
          stride_(stride), activation_(activation), output_shape_{output.channels, output.height, output.width},
          weight_number_(arguments.add_tensor("weight", {output.channels, input.channels, kernel, kernel})),
          weight_(arguments.layout[weight_number_]),
          bias_(arguments.layout[arguments.add_tensor("bias", {output.channels})]) {}

    [[nodiscard]] std::string description() const override {
        return fmt::format("conv {0}x{1}x{1}{2}{3} {4}", output_.channels, kernel_,
                           padding_ == 0 ? "" : fmt::format(" pad {}", padding_),
                           stride_ == 1 ? "" : fmt::format(" stride {}", stride_), to_string(activation_));
    }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return output_shape_; }
    [[nodiscard]] bool ends_linear() const noexcept override { return activation_ == Activation::linear; }
    [[nodiscard]] Arrangement arrangement() const noexcept override { return Arrangement::interleaved; }
    [[nodiscard]] double forward_flops() const noexcept override {
        return 2.0 * static_cast<double>(output_.pixels() * weight_.size);
    }

    void initialise(std::span<Real> parameters, std::uint64_t seed) const override {
        const std::size_t window = kernel_ * kernel_;
        draw_uniform(weight_.in(parameters),
                     weight_bound(activation_, input_.channels * window, output_.channels * window), seed,
                     weight_number_);
        std::ranges::fill(bias_.in(parameters), Real{0});
    }

    void reserve(const Extent& extent, core::MemoryBook& book) override {
        reserve_borders(book);
        book.grant(weight_.size, flipped_weight_);
        book.grant(weight_.size * lanes, lane_sums_);
        book.grant(extent.groups * sums(), group_sums_);
    }
    [[nodiscard]] std::size_t max_added_up() const noexcept override { return weight_.size; }

    void forward(std::span<const Real> parameters, const Pass&, MatrixView<const Real> x, MatrixView<Real> y) override {
        for (std::size_t block = 0; block < y.rows; ++block) {
            maps_.convolve({all_pixels(with_border(x.row(block)), bordered_input()), input_.channels,
                            weight_.in(parameters).data(), bias_.in(parameters).data(), kernel_, kernel_, stride_,
                            all_pixels(y.row(block).data(), output_), output_});
            activate(activation_, y.row(block)); // while it is in cache
        }
    }

    void backward(std::span<const Real> parameters, ShardOffsets groups, MatrixView<const Real> x,
                  MatrixView<const Real> y, MatrixView<Real> dy, MatrixView<Real> dx,
                  ShardGradients<Real>& gradients) override {
        if (!dx.is_null()) {
            flip_weight(weight_.in(parameters));
        }
        for (std::size_t block = 0; block < y.rows; ++block) {
            multiply_by_derivative<Real>(activation_, y.row(block), dy.row(block));
            const Real* const delta = dy.row(block).data();
            std::array<Real*, lanes / group_rows> weights{};
            std::array<Real*, lanes / group_rows> biases{};
            std::size_t count = 0;
            for (std::size_t g = block * weights.size(); count < weights.size() && g < groups.back(); ++g, ++count) {
                weights[count] = group_sums_.data() + g * sums();
                biases[count] = weights[count] + weight_.size;
            }
            maps_.sum_weight_gradients(
                {delta, output_, with_border(x.row(block)), bordered_input(), kernel_, stride_, lane_sums_.data()});
            maps_.add_lanes(lane_sums_.data(), weight_.size, weights.data(), count);
            maps_.sum_bias_gradients(delta, output_, lane_sums_.data());
            maps_.add_lanes(lane_sums_.data(), bias_.size, biases.data(), count);
            if (!dx.is_null()) {
                compute_input_gradient(dy.row(block), dx.row(block));
            }
        }
        add_up(bias_, group_sums_.data() + weight_.size, sums(), groups, gradients);
        add_up(weight_, group_sums_.data(), sums(), groups, gradients);
    }

  protected:
    [[nodiscard]] Maps bordered_input() const noexcept {
        return {input_.channels, input_.height + 2 * padding_, input_.width + 2 * padding_};
    }
    /// The width of the border around dy: the maximum distance that a window of the input gradient extends beyond it.
    [[nodiscard]] std::size_t border() const noexcept { return (kernel_ + stride_ - 2) / stride_; }
    [[nodiscard]] Maps bordered_delta() const noexcept {
        return {output_.channels, output_.height + 2 * border(), output_.width + 2 * border()};
    }
    /// The number of weight and bias gradients of one group.
    [[nodiscard]] std::size_t sums() const noexcept { return weight_.size + bias_.size; }

    void reserve_borders(core::MemoryBook& book) {
        book.grant(padding_ == 0 ? 0 : bordered_input().size() * lanes, bordered_input_);
        book.grant(bordered_delta().size() * lanes, bordered_delta_);
    }
    /// Copies a block of the input into a border of zeros. The border is never overwritten.
    [[nodiscard]] const Real* with_border(std::span<const Real> x) noexcept {
        if (padding_ == 0) {
            return x.data();
        }
        frame(x, input_, padding_, bordered_input_.data());
        return bordered_input_.data();
    }
    static void frame(std::span<const Real> maps, const Maps& shape, std::size_t border, Real* framed) noexcept {
        const std::size_t row = shape.width * lanes;
        const Pixels<Real> inner =
            all_pixels(framed, {shape.channels, shape.height + 2 * border, shape.width + 2 * border})
                .every(1, border, border);
        for (std::size_t c = 0; c < shape.channels; ++c) {
            for (std::size_t i = 0; i < shape.height; ++i) {
                std::copy_n(maps.data() + (c * shape.height + i) * row, row, inner.at(i, 0) + c * inner.map_stride);
            }
        }
    }

    /// For the input pixels a, a + S, a + 2 S, ... in one direction: the offsets u in a kernel that connect them to
    /// output pixels. These are first, first + S, ..., `count` offsets.
    struct Phase {
        std::size_t first = 0;
        std::size_t count = 0;
    };
    [[nodiscard]] Phase phase(std::size_t a) const noexcept {
        const std::size_t first = (a + padding_) % stride_;
        return {first, first < kernel_ ? (kernel_ - first + stride_ - 1) / stride_ : 0};
    }
    template <class Action>
    void for_each_phase(Action&& action) const noexcept {
        for (std::size_t a = 0; a < std::min(stride_, input_.height); ++a) {
            for (std::size_t b = 0; b < std::min(stride_, input_.width); ++b) {
                action(a, phase(a), b, phase(b));
            }
        }
    }

    /// The shape of the input pixels of a phase that begins at (a, b).
    [[nodiscard]] Maps phase_maps(std::size_t a, std::size_t b) const noexcept {
        return {input_.channels, (input_.height - a + stride_ - 1) / stride_,
                (input_.width - b + stride_ - 1) / stride_};
    }
    /// The first row of bordered_delta() in the window of input row `pixel`: output row (pixel + P − u) / S for the
    /// largest u. Columns likewise.
    [[nodiscard]] std::size_t first_of_window(std::size_t pixel, Phase offsets) const noexcept {
        return offsets.count == 0 ? 0 : border() + (pixel + padding_ - offsets.first) / stride_ + 1 - offsets.count;
    }

    /// Computes dx. The gradient of an input pixel is a weighted sum over the output pixels that depend on it. For the
    /// pixels of a phase, these output pixels form a window. Its weights are every S-th weight of the kernel, rotated
    /// by 180 degrees. So each phase is a convolution with stride 1.
    void compute_input_gradient(std::span<const Real> dy, std::span<Real> dx) noexcept {
        frame(dy, output_, border(), bordered_delta_.data());
        const Real* weight = flipped_weight_.data();
        for_each_phase([&](std::size_t a, Phase rows, std::size_t b, Phase columns) {
            const Pixels<const Real> windows = all_pixels<const Real>(bordered_delta_.data(), bordered_delta())
                                                   .every(1, first_of_window(a, rows), first_of_window(b, columns));
            maps_.convolve({windows, output_.channels, weight, nullptr, rows.count, columns.count, 1,
                            all_pixels(dx.data(), input_).every(stride_, a, b), phase_maps(a, b)});
            weight += input_.channels * output_.channels * rows.count * columns.count;
        });
    }

    /// For each phase, flipped[c, m, u, v] = the phase's weights of W[m, c] in reverse order.
    void flip_weight(std::span<const Real> weight) noexcept {
        Real* flipped = flipped_weight_.data();
        for_each_phase([&](std::size_t, Phase rows, std::size_t, Phase columns) {
            for (std::size_t c = 0; c < input_.channels; ++c) {
                for (std::size_t m = 0; m < output_.channels; ++m) {
                    const Real* const kernel = weight.data() + (m * input_.channels + c) * kernel_ * kernel_;
                    for (std::size_t u = rows.count; u-- > 0;) {
                        for (std::size_t v = columns.count; v-- > 0;) {
                            *flipped++ = kernel[(rows.first + u * stride_) * kernel_ + columns.first + v * stride_];
                        }
                    }
                }
            }
        });
    }

    /// Adds sums of a tensor, which are `distance` apart, over those of each shard.
    void add_up(const Tensor& tensor, const Real* sums, std::size_t distance, ShardOffsets shards,
                ShardGradients<Real>& gradients) {
        const auto add = kernels::network_kernels<Real>().elements.add;
        gradients.add_up(tensor.offset, tensor.size, [&](std::size_t shard, std::span<Real> out, bool continues) {
            if (!continues) {
                std::ranges::fill(out, Real{0});
            }
            for (std::size_t i = shards[shard]; i < shards[shard + 1]; ++i) {
                add(out.data(), sums + i * distance, out.data(), out.size());
            }
        });
    }

    const kernels::MapKernels<Real>& maps_ = kernels::network_kernels<Real>().maps;
    Maps input_;
    Maps output_;
    std::size_t kernel_;
    std::size_t padding_;
    std::size_t stride_;
    Activation activation_;
    Shape output_shape_;
    std::size_t weight_number_;
    Tensor weight_;
    Tensor bias_;
    Buffer<Real> bordered_input_; ///< of one block
    Buffer<Real> bordered_delta_; ///< of one block
    Buffer<Real> flipped_weight_; ///< sorted by phase
    Buffer<Real> lane_sums_;      ///< of one block
    Buffer<Real> group_sums_;     ///< groups × (weights, then biases)
};

} // namespace dtrain::nn
