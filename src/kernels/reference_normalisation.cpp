#include "reference.hpp"

#include <cmath>
#include <cstddef>

namespace dtrain::kernels::reference {
namespace {

/// Calls action(place of the value, slot) for all values, those of a slot in the order of their rows.
template <class Action>
void for_each_value(const Columns& all, Action&& action) {
    for (std::size_t column = 0; column < all.columns; ++column) {
        for (std::size_t row = 0; row < all.rows; ++row) {
            for (std::size_t lane = 0; lane < all.lanes; ++lane) {
                action(column * all.column_stride + row * all.row_stride + lane, column * group_rows + lane);
            }
        }
    }
}

template <class Real>
void add_values(const Columns& all, const Real* x, double* sums) noexcept {
    for_each_value(all, [&](std::size_t i, std::size_t slot) { sums[slot] += static_cast<double>(x[i]); });
}

template <class Real>
void add_squares(const Columns& all, const Real* x, const Real* centre, double* sums) noexcept {
    for_each_value(all, [&](std::size_t i, std::size_t slot) {
        const double distance = static_cast<double>(x[i]) - static_cast<double>(centre[slot]);
        sums[slot] = std::fma(distance, distance, sums[slot]);
    });
}

template <class Real>
void add_gradients(const Columns& all, const Real* x, const Real* dz, const Real* centre, const Real* scale,
                   double* sums, double* products) noexcept {
    for_each_value(all, [&](std::size_t i, std::size_t slot) {
        const Real normal = (x[i] - centre[slot]) * scale[slot];
        sums[slot] += static_cast<double>(dz[i]);
        products[slot] = std::fma(static_cast<double>(dz[i]), static_cast<double>(normal), products[slot]);
    });
}

template <class Real>
void normalise(const Columns& all, const Real* x, const Real* centre, const Real* scale, const Real* shift,
               Real* y) noexcept {
    for_each_value(
        all, [&](std::size_t i, std::size_t slot) { y[i] = std::fma(x[i] - centre[slot], scale[slot], shift[slot]); });
}

template <class Real>
void normalise_backward(const Columns& all, const Real* x, const Real* dz, const Real* centre, const Real* scale,
                        const Real* mean, const Real* slope, Real* dx) noexcept {
    for_each_value(all, [&](std::size_t i, std::size_t slot) {
        dx[i] = scale[slot] * std::fma(-(x[i] - centre[slot]), slope[slot], dz[i] - mean[slot]);
    });
}

} // namespace

template <class Real>
NormalisationKernels<Real> normalisation_kernels() noexcept {
    return {add_values<Real>, add_squares<Real>, add_gradients<Real>, normalise<Real>, normalise_backward<Real>};
}
template NormalisationKernels<float> normalisation_kernels() noexcept;
template NormalisationKernels<double> normalisation_kernels() noexcept;

} // namespace dtrain::kernels::reference
