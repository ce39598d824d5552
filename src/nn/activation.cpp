#include "dtrain/nn/activation.hpp"

#include "dtrain/core/registry.hpp"
#include "dtrain/kernels/exponential.hpp"

#include <cstddef>

namespace dtrain::nn {
namespace {

using core::Named;
constexpr core::Registry activations("activation",
                                     {Named{"linear", Activation::linear}, Named{"sigmoid", Activation::sigmoid},
                                      Named{"relu", Activation::relu}, Named{"tanh", Activation::tanh}});

} // namespace

std::optional<Activation> parse_activation(std::string_view name) noexcept {
    const Activation* const found = activations.find(name);
    return found == nullptr ? std::nullopt : std::optional(*found);
}

std::string_view to_string(Activation activation) noexcept {
    return activations.name_of(activation);
}

std::vector<std::string> activation_names() {
    return activations.names();
}

template <class Real>
void activate(Activation activation, std::span<Real> values) noexcept {
    Real* const z = values.data();
    const std::size_t size = values.size();
    switch (activation) {
    case Activation::linear:
        break;
    case Activation::sigmoid:
        for (std::size_t i = 0; i < size; ++i) {
            z[i] = Real{1} / (Real{1} + kernels::exponential(-z[i]));
        }
        break;
    case Activation::relu:
        for (std::size_t i = 0; i < size; ++i) {
            z[i] = z[i] < Real{0} ? Real{0} : z[i];
        }
        break;
    case Activation::tanh:
        for (std::size_t i = 0; i < size; ++i) {
            z[i] = Real{1} - Real{2} / (Real{1} + kernels::exponential(Real{2} * z[i]));
        }
        break;
    }
}

template <class Real>
void multiply_by_derivative(Activation activation, std::span<const Real> y, std::span<Real> gradient) noexcept {
    const Real* const out = y.data();
    Real* const g = gradient.data();
    const std::size_t size = gradient.size();
    switch (activation) {
    case Activation::linear:
        break;
    case Activation::sigmoid:
        for (std::size_t i = 0; i < size; ++i) {
            g[i] *= out[i] * (Real{1} - out[i]);
        }
        break;
    case Activation::relu:
        for (std::size_t i = 0; i < size; ++i) {
            g[i] = out[i] > Real{0} ? g[i] : Real{0};
        }
        break;
    case Activation::tanh:
        for (std::size_t i = 0; i < size; ++i) {
            g[i] *= Real{1} - out[i] * out[i];
        }
        break;
    }
}

template void activate(Activation, std::span<float>) noexcept;
template void activate(Activation, std::span<double>) noexcept;
template void multiply_by_derivative(Activation, std::span<const float>, std::span<float>) noexcept;
template void multiply_by_derivative(Activation, std::span<const double>, std::span<double>) noexcept;

} // namespace dtrain::nn
