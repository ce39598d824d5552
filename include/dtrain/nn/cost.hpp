#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::nn {

/// A cost function: `sum` and the cost of each sample, a row of `output` (N × classes), accumulated in double row by
/// row. Where `gradient` (N × classes) is not empty it becomes the derivative of that sum by `output`. Both are sums;
/// whoever reduces them over ranks divides by the number of samples once.
template <class Real>
using Cost = double (*)(core::MatrixView<const Real> output, std::span<const std::uint8_t> labels,
                        core::MatrixView<Real> gradient, double sum);

/// `quadratic`: Σ_j (a_j − y_j)², y the one-hot label. `cross_entropy`: −log softmax(z)_label, the softmax being part
/// of the cost. Throws std::out_of_range for another name.
template <class Real>
[[nodiscard]] Cost<Real> find_cost(std::string_view name);
[[nodiscard]] std::vector<std::string> cost_names();

/// What a softmax is made with, p_j = e^(z_j − largest) / total: shifted so that nothing overflows.
template <class Real>
struct SoftmaxSum {
    Real largest;
    double total;
};
/// p becomes the softmax of z, unless it is empty; both may be the same memory.
template <class Real>
SoftmaxSum<Real> softmax(std::span<const Real> z, std::span<Real> p) noexcept;

/// Whether the last layer has to be linear because the cost contains its activation.
[[nodiscard]] bool needs_linear_output(std::string_view cost);

} // namespace dtrain::nn
