// A convolutional layer, y = f(x ⋆ W + b), a cross-correlation as everywhere in the field:
//
//   z[m, i, j] = b[m] + Σ_c Σ_u Σ_v W[m, c, u, v] x[c, i S + u − P, j S + v − P],  x = 0 outside
//
// x  C × H × W        input, C maps          dx  ∂C/∂x
// W  M × C × K × K    weight                 dy  ∂C/∂y, then ∂C/∂z
// b  M                bias
// y  M × H' × W'      activation, H' = (H + 2 P − K) / S + 1
//
// Samples are interleaved (nn/interleave.hpp): a pixel is a vector of so many samples, so that any shape of map, kernel
// and stride keeps all lanes busy, and every sample has its own chain of fused multiply-adds.

#include "dtrain/nn/activation.hpp"
#include "dtrain/nn/initialisation.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

namespace dtrain::nn {
namespace {

using core::Buffer;
using core::MatrixView;

template <class Real>
constexpr std::size_t lanes = block_lanes<Real>;
template <class Real>
using Vector = typename Block<Real>::Vector;

/// Where the work is, a block is cut into vectors of this CPU, one after the other.
template <class Real>
using Native = core::Simd<Real, std::min(core::vector_bytes, sizeof(Real) * lanes<Real>)>;
constexpr bool many_registers = core::vector_bytes == 64; // 32 instead of 16

/// The maps of a sample.
struct Maps {
    std::size_t count = 0;
    std::size_t height = 0;
    std::size_t width = 0;

    [[nodiscard]] std::size_t pixels() const noexcept { return height * width; }
    [[nodiscard]] std::size_t size() const noexcept { return count * pixels(); }
};

/// Where the pixels of interleaved maps lie in memory, all of them or every so many; distances in elements.
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
    /// Those from (row, column) on, every `step`-th in both directions.
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

/// Calls action(begin, size) for parts of [0, size) as equal as can be, of `most` at the most.
template <class Action>
void in_even_parts(std::size_t size, std::size_t most, Action&& action) {
    const std::size_t parts = (size + most - 1) / most;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
        const std::size_t end = size * (part + 1) / parts;
        action(begin, end - begin);
        begin = end;
    }
}

/// Functions for tiles of up to max_rows × max_cols accumulators: [rows - 1][cols - 1].
template <class Function, std::size_t max_rows, std::size_t max_cols>
using Table = std::array<std::array<Function, max_cols>, max_rows>;

// --- y from x ---

constexpr std::size_t max_tile_maps = many_registers ? 6 : 4;
constexpr std::size_t max_tile_pixels = many_registers ? 4 : 3;

template <class Real>
struct ForwardTile {
    const Real* x = nullptr; ///< of the first pixel under the kernel
    std::size_t x_map_stride = 0, x_row_stride = 0;
    std::size_t x_pixel_stride = 0; ///< from one window to the next
    const Real* weight = nullptr;
    std::size_t maps = 0; ///< of the input
    Kernel kernel;
    const Real* bias = nullptr; ///< zeros if null
    Real* y = nullptr;
    std::size_t y_map_stride = 0, y_pixel_stride = 0;
};

/// So many neighbouring pixels of so many output maps, for one vector of samples.
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
    const std::size_t depth = t.maps * t.kernel.rows * t.kernel.cols; // weights of an output map
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
constexpr auto forward_tiles = []<std::size_t... i>(std::index_sequence<i...>) {
    using Function = void (*)(const ForwardTile<Real>&) noexcept;
    Table<Function, max_tile_maps, max_tile_pixels> table{};
    ((table[i / max_tile_pixels][i % max_tile_pixels] =
          forward_tile<Real, i / max_tile_pixels + 1, i % max_tile_pixels + 1>),
     ...);
    return table;
}
(std::make_index_sequence<max_tile_maps * max_tile_pixels>{});

/// y (y_maps of a block) from the windows of x (x_maps maps of the block, borders included) that lie `stride` apart.
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
            in_even_parts(y_maps.count, max_tile_maps, [&](std::size_t m, std::size_t maps) {
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

// --- sums over pixels: the gradients of weights and biases, lane by lane ---

constexpr std::size_t max_sum_maps = many_registers ? 5 : 4;
constexpr std::size_t max_sum_columns = many_registers ? 5 : 3;

template <class Real>
struct SumTile {
    const Real* dy = nullptr;
    std::size_t dy_map_stride = 0;
    const Real* x = nullptr; ///< what dy's first pixel is multiplied by
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
constexpr auto sum_tiles = []<std::size_t... i>(std::index_sequence<i...>) {
    using Function = void (*)(const SumTile<Real>&) noexcept;
    Table<Function, max_sum_maps, max_sum_columns> table{};
    ((table[i / max_sum_columns][i % max_sum_columns] =
          sum_tile<Real, i / max_sum_columns + 1, i % max_sum_columns + 1>),
     ...);
    return table;
}
(std::make_index_sequence<max_sum_maps * max_sum_columns>{});

/// sums (maps × C·K·K, each a vector of lanes) for one block.
template <class Real>
void sum_weights(const Real* dy, const Maps& dy_maps, const Real* x, const Maps& x_maps, std::size_t kernel,
                 std::size_t stride, Real* sums) noexcept {
    SumTile<Real> tile;
    tile.dy_map_stride = dy_maps.pixels() * lanes<Real>;
    tile.x_row_stride = stride * x_maps.width * lanes<Real>;
    tile.x_pixel_stride = stride * lanes<Real>;
    tile.height = dy_maps.height;
    tile.width = dy_maps.width;
    tile.sum_map_stride = x_maps.count * kernel * kernel * lanes<Real>;
    for (std::size_t c = 0; c < x_maps.count; ++c) {
        for (std::size_t u = 0; u < kernel; ++u) {
            in_even_parts(kernel, max_sum_columns, [&](std::size_t v, std::size_t columns) {
                in_even_parts(dy_maps.count, max_sum_maps, [&](std::size_t m, std::size_t maps) {
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

/// sums (maps, each a vector of lanes): Σ_pixels dy.
template <class Real>
void sum_biases(const Real* dy, const Maps& dy_maps, Real* sums) noexcept {
    static const std::array<Real, lanes<Real>> ones = [] {
        std::array<Real, lanes<Real>> values{};
        values.fill(1);
        return values;
    }();
    SumTile<Real> tile;
    tile.dy_map_stride = dy_maps.pixels() * lanes<Real>;
    tile.x = ones.data();
    tile.height = dy_maps.height;
    tile.width = dy_maps.width;
    tile.sum_map_stride = lanes<Real>;
    in_even_parts(dy_maps.count, max_sum_maps, [&](std::size_t m, std::size_t maps) {
        for (std::size_t lane = 0; lane < lanes<Real>; lane += Native<Real>::lanes) {
            tile.dy = dy + m * tile.dy_map_stride + lane;
            tile.sums = sums + m * lanes<Real> + lane;
            sum_tiles<Real>[maps - 1][0](tile);
        }
    });
}

/// groups[g][i] = the lanes of sums[i] that belong to group g of the block, added up along one fixed tree.
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

template <class Real>
class Convolution final : public Layer<Real> {
  public:
    Convolution(const Maps& input, const Maps& output, std::size_t kernel, std::size_t padding, std::size_t stride,
                Activation activation, const std::string& prefix, ParameterLayout& layout)
        : input_(input), output_(output), kernel_(kernel), padding_(padding), stride_(stride),
          activation_(activation), output_shape_{output.count, output.height, output.width},
          weight_number_(layout.add(prefix + "/weight", {output.count, input.count, kernel, kernel})),
          weight_(layout[weight_number_]), bias_(layout[layout.add(prefix + "/bias", {output.count})]) {}

    [[nodiscard]] std::string description() const override {
        return fmt::format("conv {0}x{1}x{1}{2}{3} {4}", output_.count, kernel_,
                           padding_ == 0 ? "" : fmt::format(" pad {}", padding_),
                           stride_ == 1 ? "" : fmt::format(" stride {}", stride_), to_string(activation_));
    }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return output_shape_; }
    [[nodiscard]] Arrangement arrangement() const noexcept override { return Arrangement::interleaved; }
    [[nodiscard]] double forward_flops() const noexcept override {
        return 2.0 * static_cast<double>(output_.pixels() * weight_.size);
    }

    void initialise(std::span<Real> parameters, std::uint64_t seed) const override {
        const std::size_t window = kernel_ * kernel_;
        draw_uniform(weight_.in(parameters), weight_bound(activation_, input_.count * window, output_.count * window),
                     seed, weight_number_);
        std::ranges::fill(bias_.in(parameters), Real{0});
    }

    void reserve(const Extent& extent) override {
        bordered_input_ = Buffer<Real>(padding_ == 0 ? 0 : bordered_input().size() * lanes<Real>);
        bordered_delta_ = Buffer<Real>(bordered_delta().size() * lanes<Real>);
        turned_weight_ = Buffer<Real>(weight_.size);
        lane_sums_ = Buffer<Real>(weight_.size * lanes<Real>);
        group_sums_ = Buffer<Real>(extent.groups * sums());
    }
    [[nodiscard]] std::size_t scratch_bytes(const Extent& extent) const noexcept override {
        return (((padding_ == 0 ? 0 : bordered_input().size()) + bordered_delta().size() + weight_.size) * lanes<Real> +
                weight_.size + extent.groups * sums()) *
               sizeof(Real);
    }
    [[nodiscard]] std::size_t most_added_up() const noexcept override { return weight_.size; }

    void forward(std::span<const Real> parameters, const Pass&, MatrixView<const Real> x, MatrixView<Real> y) override {
        for (std::size_t block = 0; block < y.rows; ++block) {
            convolve<Real>({with_border(x.row(block)), bordered_input()}, input_.count, weight_.in(parameters).data(),
                           bias_.in(parameters).data(), {kernel_, kernel_}, stride_, {y.row(block).data(), output_},
                           output_);
            activate(activation_, y.row(block)); // while it is in cache
        }
    }

    void backward(std::span<const Real> parameters, ShardOffsets groups, MatrixView<const Real> x,
                  MatrixView<const Real> y, MatrixView<Real> dy, MatrixView<Real> dx,
                  ShardGradients<Real>& gradients) override {
        if (!dx.empty()) {
            turn_weight(weight_.in(parameters));
        }
        for (std::size_t block = 0; block < y.rows; ++block) {
            multiply_by_derivative<Real>(activation_, y.row(block), dy.row(block));
            const Real* const delta = dy.row(block).data();
            std::array<Real*, lanes<Real> / group_rows> weights{};
            std::array<Real*, lanes<Real> / group_rows> biases{};
            std::size_t count = 0;
            for (std::size_t g = block * weights.size(); count < weights.size() && g < groups.back(); ++g, ++count) {
                weights[count] = group_sums_.data() + g * sums();
                biases[count] = weights[count] + weight_.size;
            }
            sum_weights(delta, output_, with_border(x.row(block)), bordered_input(), kernel_, stride_,
                        lane_sums_.data());
            add_lanes(lane_sums_.data(), weight_.size, weights.data(), count);
            sum_biases(delta, output_, lane_sums_.data());
            add_lanes(lane_sums_.data(), bias_.size, biases.data(), count);
            if (!dx.empty()) {
                collect(dy.row(block), dx.row(block));
            }
        }
        add_up(bias_, weight_.size, groups, gradients);
        add_up(weight_, 0, groups, gradients);
    }

  private:
    [[nodiscard]] Maps bordered_input() const noexcept {
        return {input_.count, input_.height + 2 * padding_, input_.width + 2 * padding_};
    }
    /// As many pixels as a window can reach beyond the edge.
    [[nodiscard]] std::size_t border() const noexcept { return (kernel_ + stride_ - 2) / stride_; }
    [[nodiscard]] Maps bordered_delta() const noexcept {
        return {output_.count, output_.height + 2 * border(), output_.width + 2 * border()};
    }
    /// Weights and biases of one group.
    [[nodiscard]] std::size_t sums() const noexcept { return weight_.size + bias_.size; }

    /// The block within a border of zeros, which nothing ever overwrites.
    [[nodiscard]] const Real* with_border(std::span<const Real> x) noexcept {
        if (padding_ == 0) {
            return x.data();
        }
        frame(x, input_, padding_, bordered_input_.data());
        return bordered_input_.data();
    }
    static void frame(std::span<const Real> maps, const Maps& shape, std::size_t border, Real* framed) noexcept {
        const std::size_t row = shape.width * lanes<Real>;
        const Pixels<Real> inner =
            Pixels<Real>(framed, {shape.count, shape.height + 2 * border, shape.width + 2 * border})
                .every(1, border, border);
        for (std::size_t c = 0; c < shape.count; ++c) {
            for (std::size_t i = 0; i < shape.height; ++i) {
                std::copy_n(maps.data() + (c * shape.height + i) * row, row, inner.at(i, 0) + c * inner.map_stride);
            }
        }
    }

    /// Of the offsets u in a kernel those by which output pixels lie over the input pixels a, a + S, a + 2 S, ...:
    /// first, first + S, ..., `count` of them.
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

    /// dx: every input pixel collects from the output pixels it gave to. For the pixels of a phase these lie in one
    /// window, and their weights are every S-th of the kernel, turned by 180 degrees.
    void collect(std::span<const Real> dy, std::span<Real> dx) noexcept {
        frame(dy, output_, border(), bordered_delta_.data());
        const Real* weight = turned_weight_.data();
        for_each_phase([&](std::size_t a, Phase rows, std::size_t b, Phase columns) {
            const Maps part{input_.count, (input_.height - a + stride_ - 1) / stride_,
                            (input_.width - b + stride_ - 1) / stride_};
            // Output row (a + P − u) / S for the last u, which is the first row of the window.
            const auto first = [&](std::size_t pixel, Phase offsets) {
                return border() + (pixel + padding_ - offsets.first) / stride_ + 1 - offsets.count;
            };
            convolve<Real>(
                Pixels<const Real>(bordered_delta_.data(), bordered_delta())
                    .every(1, rows.count == 0 ? 0 : first(a, rows), columns.count == 0 ? 0 : first(b, columns)),
                output_.count, weight, nullptr, {rows.count, columns.count}, 1,
                Pixels<Real>(dx.data(), input_).every(stride_, a, b), part);
            weight += input_.count * output_.count * rows.count * columns.count;
        });
    }

    /// Phase after phase, turned[c, m, u, v] = W[m, c, ...].
    void turn_weight(std::span<const Real> weight) noexcept {
        Real* turned = turned_weight_.data();
        for_each_phase([&](std::size_t, Phase rows, std::size_t, Phase columns) {
            for (std::size_t c = 0; c < input_.count; ++c) {
                for (std::size_t m = 0; m < output_.count; ++m) {
                    const Real* const kernel = weight.data() + (m * input_.count + c) * kernel_ * kernel_;
                    for (std::size_t u = rows.count; u-- > 0;) {
                        for (std::size_t v = columns.count; v-- > 0;) {
                            *turned++ = kernel[(rows.first + u * stride_) * kernel_ + columns.first + v * stride_];
                        }
                    }
                }
            }
        });
    }

    void add_up(const Tensor& tensor, std::size_t first, ShardOffsets groups, ShardGradients<Real>& gradients) {
        gradients.add_up(tensor.offset, tensor.size, [&](std::size_t shard, std::span<Real> out) {
            std::ranges::fill(out, Real{0});
            for (std::size_t g = groups[shard]; g < groups[shard + 1]; ++g) {
                const Real* const sum = group_sums_.data() + g * sums() + first;
                for (std::size_t i = 0; i < out.size(); ++i) {
                    out[i] += sum[i];
                }
            }
        });
    }

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
    Buffer<Real> turned_weight_;  ///< one phase after the other
    Buffer<Real> lane_sums_;      ///< of one block
    Buffer<Real> group_sums_;     ///< groups × (weights, then biases)
};

} // namespace

template <class Real>
std::unique_ptr<Layer<Real>> make_convolution(const LayerArguments& arguments) {
    constexpr std::size_t most_maps = 65536;
    constexpr std::size_t most_kernel = 255;
    constexpr const char* expected =
        "expected `conv CxKxK [pad P] [stride S] [activation]`, C maps from K x K pixels, in this order";
    const auto& words = arguments.words;
    if (words.size() < 2) {
        arguments.fail(expected);
    }
    std::array<std::string_view, 3> sizes;
    std::string_view rest = words[1];
    for (std::string_view& size : sizes) {
        const std::size_t end = std::min(rest.find('x'), rest.size());
        size = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (sizes[1] != sizes[2] || sizes[2].empty() || !rest.empty() || words[1].ends_with('x')) {
        arguments.fail(expected);
    }
    const std::size_t maps = arguments.number_in(sizes[0], "the number of maps", 1, most_maps);
    const std::size_t kernel = arguments.number_in(sizes[1], "the size of a kernel", 1, most_kernel);
    std::size_t padding = 0;
    std::size_t stride = 1;
    std::size_t word = 2;
    if (word + 1 < words.size() && words[word] == "pad") {
        padding = arguments.number_in(words[word + 1], "pad, narrower than the kernel,", 0, kernel - 1);
        word += 2;
    }
    if (word + 1 < words.size() && words[word] == "stride") {
        stride = arguments.number_in(words[word + 1], "the stride", 1, most_kernel);
        word += 2;
    }
    Activation activation = Activation::linear;
    if (word < words.size() && words[word] != "pad" && words[word] != "stride") { // else misplaced, or without a number
        activation = arguments.activation_in(words[word++]);
    }
    if (word < words.size()) {
        arguments.fail(expected);
    }

    const Shape maps_in = arguments.input_maps();
    const Maps input{maps_in[0], maps_in[1], maps_in[2]};
    if (input.height + 2 * padding < kernel || input.width + 2 * padding < kernel) {
        arguments.fail(fmt::format("a kernel of {0} x {0} does not fit on maps of {1} x {2} with pad {3}", kernel,
                                   input.height, input.width, padding));
    }
    const Maps output{maps, (input.height + 2 * padding - kernel) / stride + 1,
                      (input.width + 2 * padding - kernel) / stride + 1};
    arguments.require_size({output.count, output.height, output.width});
    arguments.require_size({output.count, input.count, kernel, kernel});
    return std::make_unique<Convolution<Real>>(input, output, kernel, padding, stride, activation,
                                               arguments.tensor_prefix, arguments.layout);
}

template std::unique_ptr<Layer<float>> make_convolution(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_convolution(const LayerArguments&);

} // namespace dtrain::nn
