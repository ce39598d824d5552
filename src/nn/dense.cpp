// A fully connected layer, y = f(x Wᵀ + b).
//
// x  N × I   input                 dx  N × I   ∂C/∂x
// W  O × I   weight                dy  N × O   ∂C/∂y, then ∂C/∂z
// b  O       bias
// y  N × O   activation f(z), z = x Wᵀ + b

#include "dtrain/kernels/products.hpp"
#include "dtrain/nn/activation.hpp"
#include "dtrain/nn/initialisation.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>

namespace dtrain::nn {
namespace {

using core::MatrixView;
using kernels::Factor;

constexpr std::size_t max_outputs = 1U << 20;

template <class Real>
class Dense final : public Layer<Real> {
  public:
    Dense(std::size_t outputs, Activation activation, const LayerArguments& arguments)
        : Layer<Real>(arguments.label), products_(arguments.products_for(outputs, element_count(arguments.input))),
          inputs_(element_count(arguments.input)), outputs_(outputs), activation_(activation), output_shape_{outputs},
          weight_number_(arguments.add_tensor("weight", {outputs, inputs_})), weight_(arguments.layout[weight_number_]),
          bias_(arguments.layout[arguments.add_tensor("bias", {outputs})]) {}

    [[nodiscard]] std::string description() const override {
        return fmt::format("dense {} {}", outputs_, to_string(activation_));
    }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return output_shape_; }
    [[nodiscard]] bool ends_linear() const noexcept override { return activation_ == Activation::linear; }
    [[nodiscard]] bool rounds_factors() const noexcept override { return products_.rounds_factors(); }
    [[nodiscard]] double forward_flops() const noexcept override {
        return 2.0 * static_cast<double>(inputs_ * outputs_);
    }

    void initialise(std::span<Real> parameters, std::uint64_t seed) const override {
        draw_uniform(weight_.in(parameters), weight_bound(activation_, inputs_, outputs_), seed, weight_number_);
        std::ranges::fill(bias_.in(parameters), Real{0});
    }

    void forward(std::span<const Real> parameters, const Pass&, MatrixView<const Real> x, MatrixView<Real> y) override {
        const std::span<const Real> bias = bias_.in(parameters);
        for (std::size_t n = 0; n < y.rows; ++n) {
            std::ranges::copy(bias, y.row(n).begin());
        }
        products_.multiply_add(Factor<Real>(x), weight(parameters).transposed(), y);
        activate(activation_, y.values());
    }

    void backward(std::span<const Real> parameters, ShardOffsets shards, MatrixView<const Real> x,
                  MatrixView<const Real> y, MatrixView<Real> dy, MatrixView<Real> dx,
                  ShardGradients<Real>& gradients) override {
        multiply_by_derivative<Real>(activation_, y.values(), dy.values());
        const MatrixView<const Real> dz = dy;
        gradients.add_product(products_, bias_.offset, Factor<Real>::ones(1, dz.rows), Factor<Real>(dz), shards);
        gradients.add_product(products_, weight_.offset, Factor<Real>(dz).transposed(), Factor<Real>(x), shards);
        if (!dx.is_null()) {
            products_.multiply(Factor<Real>(dz), weight(parameters), dx);
        }
    }

  private:
    [[nodiscard]] Factor<Real> weight(std::span<const Real> parameters) const {
        return Factor<Real>(MatrixView<const Real>{weight_.in(parameters).data(), outputs_, inputs_});
    }

    kernels::Products& products_;
    std::size_t inputs_;
    std::size_t outputs_;
    Activation activation_;
    Shape output_shape_;
    std::size_t weight_number_;
    Tensor weight_;
    Tensor bias_;
};

} // namespace

template <class Real>
std::unique_ptr<Layer<Real>> make_dense(const LayerArguments& arguments) {
    const auto& words = arguments.words;
    if (words.size() < 2 || words.size() > 3) {
        arguments.fail("expected `dense N [activation]`, where N is the number of outputs");
    }
    const std::size_t outputs = arguments.number_in(words[1], "the number of outputs", 1, max_outputs);
    const Activation activation = words.size() == 3 ? arguments.activation_in(words[2]) : Activation::linear;
    arguments.require_size(arguments.input);
    arguments.require_size({outputs, element_count(arguments.input)});
    return std::make_unique<Dense<Real>>(outputs, activation, arguments);
}

template std::unique_ptr<Layer<float>> make_dense(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_dense(const LayerArguments&);

} // namespace dtrain::nn
