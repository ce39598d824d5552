// A long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) as PyTorch
// defines it. The output is the last hidden state. For each time step t:
//
//   (i, f, g, o) = W_ih x_t + W_hh h_{t−1} + b,  then the sigmoid of i, f and o, and tanh of g
//   c_t = f c_{t−1} + i g        h_t = o tanh(c_t)        h and c are 0 before the first step
//
// T time steps, F features, H hidden units; x is N × (T · F), y is N × H.
// W_ih  4H × F, W_hh  4H × H, b  4H   the gates in the order i, f, g, o
//
// Scratch memory for each sample and time step. All time steps are kept, so each weight gradient is a single product.
// step input  x_t and h_{t−1}, F + H values
// gates       i, f, g, o after their activation, 4H values; the backward pass replaces them by ∂C/∂z
// cells       c_t and tanh(c_t), 2H values

#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/initialisation.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <cmath>

namespace dtrain::nn {
namespace {

using core::Buffer;
using core::MatrixView;
using kernels::Factor;

/// Rows at a distance of a multiple of 2 KiB evict each other from a cache, so rows get some padding.
constexpr std::size_t gap = 16;

template <class Real>
class Lstm final : public Layer<Real> {
  public:
    Lstm(std::size_t hidden, const LayerArguments& arguments)
        : Layer<Real>(arguments.label), products_(arguments.products_for(4 * hidden, arguments.input[1] + hidden)),
          times_(arguments.input[0]), features_(arguments.input[1]), hidden_(hidden), output_shape_{hidden},
          input_number_(arguments.add_tensor("weight_ih", {4 * hidden, features_})),
          hidden_number_(arguments.add_tensor("weight_hh", {4 * hidden, hidden})),
          input_weight_(arguments.layout[input_number_]), hidden_weight_(arguments.layout[hidden_number_]),
          bias_(arguments.layout[arguments.add_tensor("bias", {4 * hidden})]) {}

    [[nodiscard]] std::string description() const override { return fmt::format("lstm {}", hidden_); }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return output_shape_; }
    [[nodiscard]] bool rounds_factors() const noexcept override { return products_.rounds_factors(); }
    [[nodiscard]] double forward_flops() const noexcept override {
        return 2.0 * static_cast<double>(times_ * (input_weight_.size + hidden_weight_.size));
    }

    /// The gradients of earlier hidden states are needed in any case.
    [[nodiscard]] double backward_flops(bool input_gradient) const noexcept override {
        const auto back = static_cast<double>((times_ - 1) * hidden_weight_.size +
                                              (input_gradient ? times_ * input_weight_.size : 0));
        return forward_flops() + 2 * back;
    }

    /// Weights are uniform in ±1/√H. The bias of the forget gate is 1 (Jozefowicz et al. 2015), other biases are 0.
    void initialise(std::span<Real> parameters, std::uint64_t seed) const override {
        const double bound = 1 / std::sqrt(static_cast<double>(hidden_));
        draw_uniform(input_weight_.in(parameters), bound, seed, input_number_);
        draw_uniform(hidden_weight_.in(parameters), bound, seed, hidden_number_);
        std::ranges::fill(bias_.in(parameters), Real{0});
        std::ranges::fill(bias_.in(parameters).subspan(hidden_, hidden_), Real{1});
    }

    void reserve(const Extent& extent, core::MemoryBook& book) override {
        book.grant(extent.rows * times_ * input_stride(), step_inputs_);
        book.grant(extent.rows * times_ * gate_stride(), gates_);
        book.grant(extent.rows * times_ * 2 * hidden_, cells_);
        book.grant(extent.rows * 4 * hidden_, sums_);
        book.grant(extent.rows * hidden_, dh_, dc_);
        book.grant((features_ + hidden_) * weight_stride(), transposed_weight_);
        book.grant(products_.kept_size(features_ + hidden_, 4 * hidden_), kept_weight_);
        book.grant(products_.kept_size(4 * hidden_, hidden_), kept_hidden_weight_);
        book.grant(extent.shards + 1, time_offsets_);
    }

    void forward(std::span<const Real> parameters, const Pass&, MatrixView<const Real> x, MatrixView<Real> y) override {
        transpose_weights(parameters);
        for (std::size_t n = 0; n < x.rows; ++n) {
            for (std::size_t t = 0; t < times_; ++t) {
                std::ranges::copy(x.row(n).subspan(t * features_, features_), step_input(n, t));
            }
            std::fill_n(step_input(n, 0) + features_, hidden_, Real{0});
        }
        const auto& elements = kernels::network_kernels<Real>().elements;
        const MatrixView<Real> sums = sums_.matrix(x.rows, 4 * hidden_);
        Factor<Real> weight(MatrixView<const Real>{transposed_weight_.data(), features_ + hidden_, 4 * hidden_});
        weight.row_stride = weight_stride();
        weight = products_.keep(weight, kept_weight_.data());
        for (std::size_t t = 0; t < times_; ++t) {
            for (std::size_t n = 0; n < x.rows; ++n) {
                std::ranges::copy(bias_.in(parameters), sums.row(n).begin());
            }
            products_.multiply_add(step_inputs(x.rows, t), weight, sums);
            for (std::size_t n = 0; n < x.rows; ++n) {
                std::ranges::copy(sums.row(n), gates(n, t));
                elements.lstm_forward(cell(n, t), t + 1 < times_ ? step_input(n, t + 1) + features_ : y.row(n).data());
            }
        }
    }

    void backward(std::span<const Real> parameters, ShardOffsets shards, MatrixView<const Real> x,
                  MatrixView<const Real>, MatrixView<Real> dy, MatrixView<Real> dx,
                  ShardGradients<Real>& gradients) override {
        const auto& elements = kernels::network_kernels<Real>().elements;
        const MatrixView<Real> dh = dh_.matrix(x.rows, hidden_);
        std::ranges::copy(dy.values(), dh.data);
        std::ranges::fill(dc_.matrix(x.rows, hidden_).values(), Real{0});
        const Factor<Real> hidden_weight = products_.keep(
            Factor<Real>(MatrixView<const Real>{hidden_weight_.in(parameters).data(), 4 * hidden_, hidden_}),
            kept_hidden_weight_.data());
        for (std::size_t t = times_; t-- > 0;) {
            for (std::size_t n = 0; n < x.rows; ++n) {
                elements.lstm_backward(cell(n, t), dh.row(n).data(), dc_.matrix(x.rows, hidden_).row(n).data());
            }
            if (t > 0) {
                Factor<Real> dz(MatrixView<const Real>{gates(0, t), x.rows, 4 * hidden_});
                dz.row_stride = times_ * gate_stride();
                products_.multiply(dz, hidden_weight, dh);
            }
        }
        add_products(x.rows, shards, gradients);
        if (!dx.is_null()) {
            const Factor<Real> input_weight(
                MatrixView<const Real>{input_weight_.in(parameters).data(), 4 * hidden_, features_});
            products_.multiply(all_gates(x.rows), input_weight, MatrixView<Real>{dx.data, x.rows * times_, features_});
        }
    }

  private:
    [[nodiscard]] std::size_t input_stride() const noexcept { return features_ + hidden_; }
    [[nodiscard]] std::size_t gate_stride() const noexcept { return 4 * hidden_ + gap; }
    [[nodiscard]] std::size_t weight_stride() const noexcept { return 4 * hidden_ + gap; }
    [[nodiscard]] Real* step_input(std::size_t n, std::size_t t) const noexcept {
        return step_inputs_.data() + (n * times_ + t) * input_stride();
    }
    [[nodiscard]] Real* gates(std::size_t n, std::size_t t) const noexcept {
        return gates_.data() + (n * times_ + t) * gate_stride();
    }
    [[nodiscard]] Real* cells(std::size_t n, std::size_t t) const noexcept {
        return cells_.data() + (n * times_ + t) * 2 * hidden_;
    }
    /// N × (F + H): the step inputs of all samples at time step t.
    [[nodiscard]] Factor<Real> step_inputs(std::size_t rows, std::size_t t) const noexcept {
        Factor<Real> factor(MatrixView<const Real>{step_input(0, t), rows, input_stride()});
        factor.row_stride = times_ * input_stride();
        return factor;
    }
    /// (N · T) × 4H: the gates of all samples and time steps.
    [[nodiscard]] Factor<Real> all_gates(std::size_t rows) const noexcept {
        Factor<Real> factor(MatrixView<const Real>{gates_.data(), rows * times_, 4 * hidden_});
        factor.row_stride = gate_stride();
        return factor;
    }

    /// Stores W_ihᵀ above W_hhᵀ, (F + H) × 4H, so that the products of the time steps read whole rows.
    void transpose_weights(std::span<const Real> parameters) noexcept {
        const auto transpose = [&](std::span<const Real> weight, std::size_t columns, Real* to) {
            for (std::size_t i = 0; i < 4 * hidden_; ++i) {
                for (std::size_t j = 0; j < columns; ++j) {
                    to[j * weight_stride() + i] = weight[i * columns + j];
                }
            }
        };
        transpose(input_weight_.in(parameters), features_, transposed_weight_.data());
        transpose(hidden_weight_.in(parameters), hidden_, transposed_weight_.data() + features_ * weight_stride());
    }

    [[nodiscard]] kernels::LstmCell<Real> cell(std::size_t n, std::size_t t) const noexcept {
        Real* const c = cells(n, t);
        return {hidden_, gates(n, t), t == 0 ? nullptr : cells(n, t - 1), c, c + hidden_};
    }

    void add_products(std::size_t rows, ShardOffsets shards, ShardGradients<Real>& gradients) {
        const std::span<std::size_t> offsets = time_offsets_.values().first(shards.size());
        std::ranges::transform(shards, offsets.begin(), [this](std::size_t offset) { return offset * times_; });
        const Factor<Real> dz = all_gates(rows);
        Factor<Real> all_step_inputs(MatrixView<const Real>{step_inputs_.data(), rows * times_, input_stride()});
        gradients.add_product(products_, bias_.offset, Factor<Real>::ones(1, dz.rows), dz, offsets);
        gradients.add_product(products_, hidden_weight_.offset, dz.transposed(),
                              all_step_inputs.block(0, dz.rows, features_, hidden_), offsets);
        gradients.add_product(products_, input_weight_.offset, dz.transposed(),
                              all_step_inputs.block(0, dz.rows, 0, features_), offsets);
    }

    kernels::Products& products_;
    std::size_t times_;
    std::size_t features_;
    std::size_t hidden_;
    Shape output_shape_;
    std::size_t input_number_;
    std::size_t hidden_number_;
    Tensor input_weight_;
    Tensor hidden_weight_;
    Tensor bias_;
    Buffer<Real> step_inputs_;
    Buffer<Real> gates_;
    Buffer<Real> cells_;
    Buffer<Real> sums_; ///< N × 4H, for one time step
    Buffer<Real> dh_;
    Buffer<Real> dc_;
    Buffer<Real> transposed_weight_;
    Buffer<std::uint16_t> kept_weight_;        ///< the same, see Products::keep()
    Buffer<std::uint16_t> kept_hidden_weight_; ///< W_hh
    Buffer<std::size_t> time_offsets_;         ///< for each shard, its first row in (N · T)
};

} // namespace

template <class Real>
std::unique_ptr<Layer<Real>> make_lstm(const LayerArguments& arguments) {
    constexpr std::size_t max_hidden = 1U << 16;
    if (arguments.words.size() != 2) {
        arguments.fail("expected `lstm N`, where N is the number of hidden units");
    }
    if (arguments.input.size() != 2) {
        arguments.fail(fmt::format("the input must be time steps x features, such as the rows of an image, but its "
                                   "shape is {}",
                                   to_string(arguments.input)));
    }
    arguments.require_size(arguments.input);
    const std::size_t hidden = arguments.number_in(arguments.words[1], "the number of hidden units", 1, max_hidden);
    arguments.require_size({4 * hidden, hidden + arguments.input[1]});
    return std::make_unique<Lstm<Real>>(hidden, arguments);
}

template std::unique_ptr<Layer<float>> make_lstm(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_lstm(const LayerArguments&);

} // namespace dtrain::nn
