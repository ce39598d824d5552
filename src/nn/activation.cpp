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
    const auto replace = [values](auto&& f) {
        Real* const z = values.data();
        for (std::size_t i = 0; i < values.size(); ++i) {
            z[i] = f(z[i]);
        }
    };
    switch (activation) {
    case Activation::linear:
        return;
    case Activation::sigmoid:
        return replace([](Real z) { return Real{1} / (Real{1} + kernels::exponential(-z)); });
    case Activation::relu:
        return replace([](Real z) { return z < Real{0} ? Real{0} : z; });
    case Activation::tanh:
        return replace([](Real z) { return Real{1} - Real{2} / (Real{1} + kernels::exponential(Real{2} * z)); });
    }
}

template <class Real>
void multiply_by_derivative(Activation activation, std::span<const Real> y, std::span<Real> gradient) noexcept {
    const auto replace = [y, gradient](auto&& rule) {
        const Real* const out = y.data();
        Real* const g = gradient.data();
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            g[i] = rule(out[i], g[i]);
        }
    };
    switch (activation) {
    case Activation::linear:
        return;
    case Activation::sigmoid:
        return replace([](Real out, Real g) { return g * (out * (Real{1} - out)); });
    case Activation::relu:
        return replace([](Real out, Real g) { return out > Real{0} ? g : Real{0}; });
    case Activation::tanh:
        return replace([](Real out, Real g) { return g * (Real{1} - out * out); });
    }
}

template void activate(Activation, std::span<float>) noexcept;
template void activate(Activation, std::span<double>) noexcept;
template void multiply_by_derivative(Activation, std::span<const float>, std::span<float>) noexcept;
template void multiply_by_derivative(Activation, std::span<const double>, std::span<double>) noexcept;

} // namespace dtrain::nn
