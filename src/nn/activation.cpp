#include "dtrain/nn/activation.hpp"

#include "dtrain/core/registry.hpp"
#include "dtrain/kernels/instruction_set.hpp"

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
    kernels::network_kernels<Real>().elements.activate(activation, values.data(), values.size());
}

template <class Real>
void multiply_by_derivative(Activation activation, std::span<const Real> y, std::span<Real> gradient) noexcept {
    kernels::network_kernels<Real>().elements.multiply_by_derivative(activation, y.data(), gradient.data(),
                                                                     gradient.size());
}

template void activate(Activation, std::span<float>) noexcept;
template void activate(Activation, std::span<double>) noexcept;
template void multiply_by_derivative(Activation, std::span<const float>, std::span<float>) noexcept;
template void multiply_by_derivative(Activation, std::span<const double>, std::span<double>) noexcept;

} // namespace dtrain::nn
