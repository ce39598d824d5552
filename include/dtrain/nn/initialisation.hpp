#pragma once

#include "dtrain/core/random.hpp"
#include "dtrain/nn/activation.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::nn {

/// The bound b of the interval [-b, b] for initial weights. The variance follows Glorot and Bengio (2010), or for ReLU
/// He et al. (2015). `fan_in` is the number of inputs of a unit, `fan_out` the number of units that an input feeds.
[[nodiscard]] inline double weight_bound(Activation activation, std::size_t fan_in, std::size_t fan_out) noexcept {
    return std::sqrt(6.0 / static_cast<double>(activation == Activation::relu ? fan_in : fan_in + fan_out));
}

/// Fills `values` with uniform random numbers in ±bound, a pure function of (seed, number of the tensor).
template <class Real>
void draw_uniform(std::span<Real> values, double bound, std::uint64_t seed, std::size_t tensor) {
    core::RandomStream random(seed, core::Purpose::initialisation, 0, tensor);
    for (Real& value : values) {
        value = static_cast<Real>(bound * (2.0 * random.uniform() - 1.0));
    }
}

} // namespace dtrain::nn
