#pragma once

#include "dtrain/kernels/table.hpp"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::nn {

using kernels::Activation;

/// Nothing if there is no activation of that name.
[[nodiscard]] std::optional<Activation> parse_activation(std::string_view name) noexcept;
[[nodiscard]] std::string_view to_string(Activation activation) noexcept;
[[nodiscard]] std::vector<std::string> activation_names();

/// values[i] = f(values[i]). A NaN stays a NaN.
template <class Real>
void activate(Activation activation, std::span<Real> values) noexcept;

/// gradient[i] *= f'(z[i]), where f' is computed from y = f(z). Both spans have the same size.
template <class Real>
void multiply_by_derivative(Activation activation, std::span<const Real> y, std::span<Real> gradient) noexcept;

} // namespace dtrain::nn
