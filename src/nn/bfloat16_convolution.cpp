// The products of a convolution in bfloat16. Each is a product of matrices (kernels::Bfloat16Product), block by block:
//
// y          rows: output channels; inner index: window rows, window columns, pairs of input channels; columns: samples
// ∂C/∂x      the same for each phase, with ∂C/∂z instead of x and rotated windows
// ∂C/∂W      rows: output channels; inner index: output pixels, samples of a group; columns: input channels, for each
//            position (u, v) in the window
//
// A panel of b is put together from rows of 32 values: 16 samples of two channels, or 16 channels of two samples. The
// sums of weight gradients go over units of four groups, 32 samples, so a shard can be cut after each unit.

#include "bfloat16_convolution.hpp"

#include "dtrain/core/bfloat16.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dtrain::nn {
namespace {

using kernels::bfloat16_columns;
using kernels::bfloat16_depth;
using kernels::in_whole_steps;

/// Values in a row of a panel: an inner pair for each column.
constexpr std::size_t panel_row = 2 * bfloat16_columns;
constexpr std::size_t pairs_of(std::size_t channels) noexcept {
    return (channels + 1) / 2;
}
/// A rounded pixel of a block, with all channels.
constexpr std::size_t pixel_values(std::size_t channels) noexcept {
    return in_whole_steps(channels) * bfloat16_columns;
}
/// The rounded samples of a group: a pixel of 16 channels.
constexpr std::size_t group_pixel_rows = group_rows / 2;
constexpr std::size_t groups_of_unit = bfloat16_depth / group_rows;
/// Panels that are multiplied at once.
constexpr std::size_t panels_at_once = 2;

/// A convolution of rounded maps with windows of rows × cols pixels.
class WindowProduct {
  public:
    WindowProduct(const kernels::Maps& x, std::size_t y_channels, std::size_t rows, std::size_t cols)
        : x_(x), y_channels_(y_channels), rows_(rows), cols_(cols) {}

    /// More than every offset of a row.
    [[nodiscard]] std::size_t end_of_offsets() const noexcept {
        return (rows_ * x_.width + cols_) * pixel_values(x_.channels);
    }

    void reserve(core::MemoryBook& book) {
        book.grant(row_count(), offsets_);
        book.grant(y_channels_ * depth(), weight_);
        book.grant(panels_at_once * depth() * bfloat16_columns, panels_); // the rows beyond row_count() stay zero
        if (offsets_.size() == 0) {
            return;
        }
        for (std::size_t u = 0; u < rows_; ++u) {
            for (std::size_t v = 0; v < cols_; ++v) {
                for (std::size_t pair = 0; pair < pairs_of(x_.channels); ++pair) {
                    offsets_.data()[row_of(u, v, pair)] =
                        static_cast<std::uint32_t>((u * x_.width + v) * pixel_values(x_.channels) + pair * panel_row);
                }
            }
        }
    }

    /// weight(m, c, u, v) is the weight from channel c of x to channel m of y.
    template <class Weight>
    void round_weights(Weight&& weight) noexcept {
        for (std::size_t m = 0; m < y_channels_; ++m) {
            for (std::size_t u = 0; u < rows_; ++u) {
                for (std::size_t v = 0; v < cols_; ++v) {
                    for (std::size_t c = 0; c < x_.channels; ++c) {
                        weight_.data()[m * depth() + 2 * row_of(u, v, c / 2) + c % 2] =
                            core::to_bfloat16(weight(m, c, u, v));
                    }
                }
            }
        }
    }

    /// y[m, i, j] = bias[m] + the weighted sum of the window whose first pixel is (row + i stride, col + j stride). x
    /// is rounded. A null bias counts as zeros.
    void operator()(const kernels::Bfloat16Kernels& kernels, const std::uint16_t* x, std::size_t row, std::size_t col,
                    std::size_t stride, const float* bias, const kernels::Pixels<float>& y,
                    const kernels::Maps& y_maps) noexcept {
        const std::size_t panel = depth() * bfloat16_columns;
        const std::size_t at_once = y.pixel_stride == bfloat16_columns ? panels_at_once : 1;
        for (std::size_t i = 0; i < y_maps.height; ++i) {
            for (std::size_t j = 0; j < y_maps.width; j += at_once) {
                const std::size_t pixels = std::min(at_once, y_maps.width - j);
                for (std::size_t p = 0; p < pixels; ++p) {
                    const std::size_t pixel = (row + i * stride) * x_.width + col + (j + p) * stride;
                    kernels.copy_rows(x + pixel * pixel_values(x_.channels), offsets_.data(), row_count(),
                                      panels_.data() + p * panel);
                }
                float* const target = y.at(i, j);
                for (std::size_t m = 0; m < y_channels_; ++m) {
                    std::fill_n(target + m * y.map_stride, pixels * bfloat16_columns, bias == nullptr ? 0 : bias[m]);
                }
                if (row_count() > 0) {
                    kernels.multiply({.a = weight_.data(),
                                      .a_stride = depth(),
                                      .rows = y_channels_,
                                      .b = panels_.data(),
                                      .panel_stride = panel,
                                      .cols = pixels * bfloat16_columns,
                                      .depth = 2 * row_count(),
                                      .start = target,
                                      .start_stride = y.map_stride,
                                      .c = target,
                                      .c_stride = y.map_stride});
                }
            }
        }
    }

  private:
    [[nodiscard]] std::size_t row_count() const noexcept { return rows_ * cols_ * pairs_of(x_.channels); }
    [[nodiscard]] std::size_t depth() const noexcept { return in_whole_steps(2 * row_count()); }
    [[nodiscard]] std::size_t row_of(std::size_t u, std::size_t v, std::size_t pair) const noexcept {
        return (u * cols_ + v) * pairs_of(x_.channels) + pair;
    }

    kernels::Maps x_;
    std::size_t y_channels_;
    std::size_t rows_;
    std::size_t cols_;
    core::Buffer<std::uint32_t> offsets_; ///< of the rows of a panel, from the first pixel of its window
    core::Buffer<std::uint16_t> weight_;
    core::Buffer<std::uint16_t> panels_;
};

class Bfloat16Convolution final : public Convolution<float> {
  public:
    Bfloat16Convolution(const Maps& input, const Maps& output, std::size_t kernel, std::size_t padding,
                        std::size_t stride, Activation activation, const LayerArguments& arguments)
        : Convolution<float>(input, output, kernel, padding, stride, activation, arguments),
          forward_(bordered_input(), output.channels, kernel, kernel) {
        for_each_phase([&](std::size_t, Phase rows, std::size_t, Phase columns) {
            phases_.emplace_back(bordered_delta(), input.channels, rows.count, columns.count);
        });
        std::size_t end = std::max(forward_.end_of_offsets(), bordered_input().pixels() * group_pixel_rows * panel_row);
        for (const WindowProduct& phase : phases_) {
            end = std::max(end, phase.end_of_offsets());
        }
        if (end > std::size_t{1} << 32) { // the number of 32-bit offsets
            arguments.fail(fmt::format("feature maps of {} x {} x {} are too large for precision = bfloat16",
                                       input.channels, input.height, input.width));
        }
    }

    [[nodiscard]] bool rounds_factors() const noexcept override { return true; }

    void reserve(const Extent& extent, core::MemoryBook& book) override {
        reserve_borders(book);
        book.grant(bordered_input().pixels() * pixel_values(input_.channels), rounded_input_);
        book.grant(bordered_delta().pixels() * pixel_values(output_.channels), rounded_delta_);
        forward_.reserve(book);
        for (WindowProduct& phase : phases_) {
            phase.reserve(book);
        }
        book.grant(2 * parts() * bordered_input().pixels() * group_pixel_rows * panel_row, samples_);
        book.grant(output_.size() * group_rows, group_delta_);
        book.grant(output_.channels * delta_depth(), rounded_group_delta_);
        book.grant(output_.pixels() * group_pixel_rows, sample_offsets_);
        book.grant(panels_at_once * delta_depth() * bfloat16_columns, sample_panels_); // rows beyond the pixels: zero
        book.grant(output_.channels * panels() * bfloat16_columns, products_);
        book.grant((extent.groups / groups_of_unit + extent.shards) * weight_.size, unit_sums_);
        book.grant(extent.shards + 1, units_);
        book.grant(bias_.size * lanes, lane_sums_);
        book.grant(extent.groups * bias_.size, group_sums_);
        for (std::size_t pixel = 0; sample_offsets_.size() > 0 && pixel < output_.pixels(); ++pixel) {
            const std::size_t x =
                pixel / output_.width * stride_ * bordered_input().width + pixel % output_.width * stride_;
            for (std::size_t row = 0; row < group_pixel_rows; ++row) {
                sample_offsets_.data()[pixel * group_pixel_rows + row] =
                    static_cast<std::uint32_t>((x * group_pixel_rows + row) * panel_row);
            }
        }
    }

    void forward(std::span<const float> parameters, const Pass&, MatrixView<const float> x,
                 MatrixView<float> y) override {
        const std::span<const float> weight = weight_.in(parameters);
        forward_.round_weights([&](std::size_t m, std::size_t c, std::size_t u, std::size_t v) {
            return weight[((m * input_.channels + c) * kernel_ + u) * kernel_ + v];
        });
        for (std::size_t block = 0; block < y.rows; ++block) {
            round(with_border(x.row(block)), bordered_input(), rounded_input_);
            forward_(bfloat16_, rounded_input_.data(), 0, 0, stride_, bias_.in(parameters).data(),
                     all_pixels(y.row(block).data(), output_), output_);
            activate(activation_, y.row(block));
        }
    }

    void backward(std::span<const float> parameters, ShardOffsets groups, MatrixView<const float> x,
                  MatrixView<const float> y, MatrixView<float> dy, MatrixView<float> dx,
                  ShardGradients<float>& gradients) override {
        if (!dx.is_null()) {
            round_phase_weights(weight_.in(parameters));
        }
        constexpr std::size_t groups_of_block = lanes / group_rows;
        std::size_t shard = 0;
        std::size_t unit = 0;
        units_.data()[0] = 0;
        for (std::size_t block = 0; block < y.rows; ++block) {
            multiply_by_derivative<float>(activation_, y.row(block), dy.row(block));
            sum_bias_gradients(dy.row(block), block, groups.back());
            bfloat16_.round_samples(with_border(x.row(block)), bordered_input(), samples_.data());
            for (std::size_t g = block * groups_of_block; g < std::min((block + 1) * groups_of_block, groups.back());
                 ++g) {
                while (g >= groups[shard + 1]) {
                    units_.data()[++shard] = unit;
                }
                const std::size_t in_shard = g - groups[shard];
                add_group(dy.row(block), g % groups_of_block, in_shard % groups_of_unit > 0);
                if (in_shard % groups_of_unit + 1 == groups_of_unit || g + 1 == groups[shard + 1]) {
                    store_unit(unit_sums_.data() + unit++ * weight_.size);
                }
            }
            if (!dx.is_null()) {
                compute_input_gradient(dy.row(block), dx.row(block));
            }
        }
        while (shard + 1 < groups.size()) {
            units_.data()[++shard] = unit;
        }
        add_up(bias_, group_sums_.data(), bias_.size, groups, gradients);
        add_up(weight_, unit_sums_.data(), weight_.size, units_.values().first(groups.size()), gradients);
    }

  private:
    /// Parts of 16 input channels.
    [[nodiscard]] std::size_t parts() const noexcept {
        return (input_.channels + bfloat16_columns - 1) / bfloat16_columns;
    }
    /// Panels of the weight gradient: a part for each position in the window.
    [[nodiscard]] std::size_t panels() const noexcept { return parts() * kernel_ * kernel_; }
    [[nodiscard]] std::size_t delta_depth() const noexcept { return in_whole_steps(output_.pixels() * group_rows); }

    /// group_sums_ = the bias gradients of the groups of a block.
    void sum_bias_gradients(std::span<const float> dy, std::size_t block, std::size_t groups) noexcept {
        std::array<float*, lanes / group_rows> sums{};
        std::size_t count = 0;
        for (std::size_t g = block * sums.size(); count < sums.size() && g < groups; ++g, ++count) {
            sums[count] = group_sums_.data() + g * bias_.size;
        }
        maps_.sum_bias_gradients(dy.data(), output_, lane_sums_.data());
        maps_.add_lanes(lane_sums_.data(), bias_.size, sums.data(), count);
    }

    /// A block's maps become [pixel][pair of channels][sample][2].
    void round(const float* maps, const Maps& shape, const Buffer<std::uint16_t>& to) const noexcept {
        bfloat16_.round_panels({maps, shape.pixels() * lanes, 1}, shape.channels, shape.pixels() * lanes, to.data(),
                               pixel_values(shape.channels));
    }

    void round_phase_weights(std::span<const float> weight) noexcept {
        WindowProduct* product = phases_.data();
        for_each_phase([&](std::size_t, Phase rows, std::size_t, Phase columns) {
            (product++)->round_weights([&](std::size_t c, std::size_t m, std::size_t u, std::size_t v) {
                const std::size_t row = rows.first + (rows.count - 1 - u) * stride_;
                const std::size_t column = columns.first + (columns.count - 1 - v) * stride_;
                return weight[((m * input_.channels + c) * kernel_ + row) * kernel_ + column];
            });
        });
    }

    void compute_input_gradient(std::span<const float> dy, std::span<float> dx) noexcept {
        frame(dy, output_, border(), bordered_delta_.data());
        round(bordered_delta_.data(), bordered_delta(), rounded_delta_);
        WindowProduct* product = phases_.data();
        for_each_phase([&](std::size_t a, Phase rows, std::size_t b, Phase columns) {
            (*product++)(bfloat16_, rounded_delta_.data(), first_of_window(a, rows), first_of_window(b, columns), 1,
                         nullptr, all_pixels(dx.data(), input_).every(stride_, a, b), phase_maps(a, b));
        });
    }

    /// products_ = or += the weight gradient of a group, output channels × panels.
    void add_group(std::span<const float> dy, std::size_t group, bool add) noexcept {
        for (std::size_t i = 0; i < output_.size(); ++i) {
            std::copy_n(dy.data() + i * lanes + group * group_rows, group_rows, group_delta_.data() + i * group_rows);
        }
        const std::size_t depth = output_.pixels() * group_rows;
        bfloat16_.round_rows({group_delta_.data(), depth, 1}, output_.channels, depth, rounded_group_delta_.data(),
                             delta_depth());
        const std::size_t panel = delta_depth() * bfloat16_columns;
        for (std::size_t n = 0; n < panels(); n += panels_at_once) {
            const std::size_t count = std::min(panels_at_once, panels() - n);
            for (std::size_t p = 0; p < count; ++p) {
                const std::size_t part = (n + p) / (kernel_ * kernel_);
                const std::size_t position = (n + p) % (kernel_ * kernel_);
                const std::size_t pixel = position / kernel_ * bordered_input().width + position % kernel_;
                const std::size_t first = (group * parts() + part) * bordered_input().pixels() + pixel;
                bfloat16_.copy_rows(samples_.data() + first * group_pixel_rows * panel_row, sample_offsets_.data(),
                                    sample_offsets_.size(), sample_panels_.data() + p * panel);
            }
            float* const products = products_.data() + n * bfloat16_columns;
            bfloat16_.multiply({.a = rounded_group_delta_.data(),
                                .a_stride = delta_depth(),
                                .rows = output_.channels,
                                .b = sample_panels_.data(),
                                .panel_stride = panel,
                                .cols = count * bfloat16_columns,
                                .depth = depth,
                                .start = add ? products : nullptr,
                                .start_stride = panels() * bfloat16_columns,
                                .c = products,
                                .c_stride = panels() * bfloat16_columns});
        }
    }

    /// Stores products_ in the order of the weights.
    void store_unit(float* sums) const noexcept {
        const std::size_t window = kernel_ * kernel_;
        for (std::size_t m = 0; m < output_.channels; ++m) {
            for (std::size_t c = 0; c < input_.channels; ++c) {
                const std::size_t first = (m * panels() + c / bfloat16_columns * window) * bfloat16_columns;
                for (std::size_t position = 0; position < window; ++position) {
                    *sums++ = products_.data()[first + position * bfloat16_columns + c % bfloat16_columns];
                }
            }
        }
    }

    const kernels::Bfloat16Kernels& bfloat16_ = kernels::table().bfloat16;
    WindowProduct forward_;
    std::vector<WindowProduct> phases_;         ///< of the gradient of the input
    Buffer<std::uint16_t> rounded_input_;       ///< of one block, with border
    Buffer<std::uint16_t> rounded_delta_;       ///< of one block, with border
    Buffer<std::uint16_t> samples_;             ///< the input of one block, see Bfloat16Kernels::round_samples
    Buffer<float> group_delta_;                 ///< output channels × pixels × samples of a group
    Buffer<std::uint16_t> rounded_group_delta_; ///< the same
    Buffer<std::uint32_t> sample_offsets_;      ///< of the rows of a panel, from the first pixel of a position
    Buffer<std::uint16_t> sample_panels_;
    Buffer<float> products_;
    Buffer<float> unit_sums_;   ///< units × weights
    Buffer<std::size_t> units_; ///< the units of each shard in the last backward pass
};

} // namespace

std::unique_ptr<Layer<float>> make_bfloat16_convolution(const kernels::Maps& input, const kernels::Maps& output,
                                                        std::size_t kernel, std::size_t padding, std::size_t stride,
                                                        Activation activation, const LayerArguments& arguments) {
    return std::make_unique<Bfloat16Convolution>(input, output, kernel, padding, stride, activation, arguments);
}

} // namespace dtrain::nn
