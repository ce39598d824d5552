#include "dtrain/nn/cost.hpp"

#include "dtrain/core/registry.hpp"
#include "dtrain/kernels/instruction_set.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dtrain::nn {
namespace {

using core::MatrixView;

template <class Real>
double quadratic(MatrixView<const Real> output, std::span<const std::uint8_t> labels, MatrixView<Real> gradient,
                 double sum) {
    for (std::size_t n = 0; n < output.rows; ++n) {
        const Real* const a = output.row(n).data();
        for (std::size_t j = 0; j < output.cols; ++j) {
            const Real difference = a[j] - Real{j == labels[n] ? Real{1} : Real{0}};
            sum += static_cast<double>(difference) * static_cast<double>(difference);
        }
        if (!gradient.is_null()) {
            Real* const da = gradient.row(n).data();
            for (std::size_t j = 0; j < output.cols; ++j) {
                da[j] = 2 * a[j];
            }
            da[labels[n]] = 2 * (a[labels[n]] - Real{1});
        }
    }
    return sum;
}

template <class Real>
double cross_entropy(MatrixView<const Real> output, std::span<const std::uint8_t> labels, MatrixView<Real> gradient,
                     double sum) {
    for (std::size_t n = 0; n < output.rows; ++n) {
        const std::span<Real> dz = gradient.is_null() ? std::span<Real>{} : gradient.row(n);
        const auto [largest, total] = softmax(output.row(n), dz);
        if (!dz.empty()) {
            dz[labels[n]] -= Real{1};
        }
        sum += std::log(total) - static_cast<double>(output.row(n)[labels[n]] - largest);
    }
    return sum;
}

template <class Real>
struct Entry {
    Cost<Real> cost;
    bool needs_linear_output;
};

using core::Named;
template <class Real>
constexpr core::Registry costs("cost function", {Named{"quadratic", Entry<Real>{quadratic<Real>, false}},
                                                 Named{"cross_entropy", Entry<Real>{cross_entropy<Real>, true}}});

} // namespace

template <class Real>
SoftmaxSum<Real> softmax(std::span<const Real> z, std::span<Real> p) noexcept {
    const std::size_t size = z.size();
    const Real* const from = z.data();
    Real* const to = p.data();
    const Real largest = *std::max_element(from, from + size);
    const auto& elements = kernels::network_kernels<Real>().elements;
    double total = 0;
    if (p.empty()) {
        std::array<Real, 64> some;
        for (std::size_t begin = 0; begin < size; begin += some.size()) {
            const std::size_t count = std::min(some.size(), size - begin);
            elements.exponentials(from + begin, largest, some.data(), count);
            for (std::size_t j = 0; j < count; ++j) {
                total += static_cast<double>(some[j]);
            }
        }
        return {largest, total};
    }
    elements.exponentials(from, largest, to, size);
    for (std::size_t j = 0; j < size; ++j) {
        total += static_cast<double>(to[j]);
    }
    const auto scale = static_cast<Real>(1 / total);
    for (std::size_t j = 0; j < size; ++j) {
        to[j] *= scale;
    }
    return {largest, total};
}

template <class Real>
Cost<Real> find_cost(std::string_view name) {
    return costs<Real>.at(name).cost;
}

std::vector<std::string> cost_names() {
    return costs<float>.names();
}

bool needs_linear_output(std::string_view cost) {
    return costs<float>.at(cost).needs_linear_output;
}

template SoftmaxSum<float> softmax(std::span<const float>, std::span<float>) noexcept;
template SoftmaxSum<double> softmax(std::span<const double>, std::span<double>) noexcept;

template Cost<float> find_cost(std::string_view);
template Cost<double> find_cost(std::string_view);

} // namespace dtrain::nn
