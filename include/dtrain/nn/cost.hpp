#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::nn {

/// A cost function. Adds the cost of each row of `output` (N × classes) to `sum` in double, row by row, and returns the
/// result. If `gradient` (N × classes) is not null, it is set to the derivative of the sum with respect to `output`.
/// Neither is divided by the number of samples; that happens once, after the reduction over ranks.
template <class Real>
using Cost = double (*)(core::MatrixView<const Real> output, std::span<const std::uint8_t> labels,
                        core::MatrixView<Real> gradient, double sum);

/// `quadratic`: Σ_j (a_j − y_j)², where y is the one-hot label. `cross_entropy`: −log softmax(z)_label; the softmax is
/// part of the cost. Throws std::out_of_range for any other name.
template <class Real>
[[nodiscard]] Cost<Real> find_cost(std::string_view name);
[[nodiscard]] std::vector<std::string> cost_names();

/// The intermediate results of a softmax, p_j = e^(z_j − largest) / total. Subtracting the largest z avoids overflow.
template <class Real>
struct SoftmaxSum {
    Real largest;
    double total;
};
/// Sets p to the softmax of z, unless p is empty. p and z may be the same memory.
template <class Real>
SoftmaxSum<Real> softmax(std::span<const Real> z, std::span<Real> p) noexcept;

/// Whether the last layer must be linear because the cost already contains its activation. Throws std::out_of_range for
/// an unknown name.
[[nodiscard]] bool needs_linear_output(std::string_view cost);

} // namespace dtrain::nn
