#include "dtrain/nn/cost.hpp"

#include "dtrain/kernels/exponential.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

namespace dtrain::nn {
namespace {

using core::MatrixView;

template <class Real>
double quadratic(MatrixView<const Real> output, std::span<const std::uint8_t> labels, MatrixView<Real> gradient) {
    double sum = 0;
    for (std::size_t n = 0; n < output.rows; ++n) {
        const Real* const a = output.row(n).data();
        for (std::size_t j = 0; j < output.cols; ++j) {
            const Real difference = a[j] - Real{j == labels[n] ? Real{1} : Real{0}};
            sum += static_cast<double>(difference) * static_cast<double>(difference);
        }
        if (!gradient.empty()) {
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
double cross_entropy(MatrixView<const Real> output, std::span<const std::uint8_t> labels, MatrixView<Real> gradient) {
    double sum = 0;
    for (std::size_t n = 0; n < output.rows; ++n) {
        const Real* const z = output.row(n).data();
        // Shifted by the largest so that nothing overflows.
        const Real largest = *std::max_element(z, z + output.cols);
        double total = 0;
        if (gradient.empty()) {
            for (std::size_t j = 0; j < output.cols; ++j) {
                total += static_cast<double>(kernels::exponential(z[j] - largest));
            }
        } else {
            Real* const dz = gradient.row(n).data();
            for (std::size_t j = 0; j < output.cols; ++j) {
                dz[j] = kernels::exponential(z[j] - largest);
            }
            for (std::size_t j = 0; j < output.cols; ++j) {
                total += static_cast<double>(dz[j]);
            }
            const auto scale = static_cast<Real>(1 / total);
            for (std::size_t j = 0; j < output.cols; ++j) {
                dz[j] *= scale;
            }
            dz[labels[n]] -= Real{1};
        }
        sum += std::log(total) - static_cast<double>(z[labels[n]] - largest);
    }
    return sum;
}

template <class Real>
struct NamedCost {
    std::string_view name;
    Cost<Real> cost;
    bool linear_output;
};

template <class Real>
constexpr std::array costs{NamedCost<Real>{"quadratic", quadratic<Real>, false},
                           NamedCost<Real>{"cross_entropy", cross_entropy<Real>, true}};

template <class Real>
const NamedCost<Real>& find(std::string_view name) {
    for (const NamedCost<Real>& known : costs<Real>) {
        if (known.name == name) {
            return known;
        }
    }
    throw std::out_of_range("no cost function " + std::string(name));
}

} // namespace

template <class Real>
Cost<Real> find_cost(std::string_view name) {
    return find<Real>(name).cost;
}

std::vector<std::string> cost_names() {
    std::vector<std::string> names;
    for (const auto& known : costs<float>) {
        names.emplace_back(known.name);
    }
    return names;
}

bool needs_linear_output(std::string_view cost) {
    return find<float>(cost).linear_output;
}

template Cost<float> find_cost(std::string_view);
template Cost<double> find_cost(std::string_view);

} // namespace dtrain::nn
