// Loops over single elements. The compiler vectorises them. Fused operations are written as fused(): otherwise it could
// fuse differently in the vectorised part of a loop and in its remainder, and bits would depend on where a loop begins.

#include "dtrain/kernels/table.hpp"

#include "exponential.hpp"
#include "simd.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

template <class Real, class Rule>
[[gnu::always_inline]] inline void replace(Real* values, std::size_t size, Rule&& rule) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = rule(values[i]);
    }
}

template <class Real>
[[gnu::always_inline]] inline void sigmoid(Real* values, std::size_t size) noexcept {
    replace(values, size, [](Real z) { return Real{1} / (Real{1} + exponential(-z)); });
}
template <class Real>
[[gnu::always_inline]] inline void tanh(Real* values, std::size_t size) noexcept {
    replace(values, size, [](Real z) { return Real{1} - Real{2} / (Real{1} + exponential(Real{2} * z)); });
}

template <class Real>
void activate(Activation activation, Real* values, std::size_t size) noexcept {
    switch (activation) {
    case Activation::linear:
        return;
    case Activation::sigmoid:
        return sigmoid(values, size);
    case Activation::relu:
        return replace(values, size, [](Real z) { return z < Real{0} ? Real{0} : z; });
    case Activation::tanh:
        return tanh(values, size);
    }
}

template <class Real>
void multiply_by_derivative(Activation activation, const Real* y, Real* gradient, std::size_t size) noexcept {
    const auto replace_gradient = [&](auto&& rule) __attribute__((always_inline)) {
        for (std::size_t i = 0; i < size; ++i) {
            gradient[i] = rule(y[i], gradient[i]);
        }
    };
    switch (activation) {
    case Activation::linear:
        return;
    case Activation::sigmoid:
        return replace_gradient([](Real out, Real g) { return g * (out * (Real{1} - out)); });
    case Activation::relu:
        return replace_gradient([](Real out, Real g) { return out > Real{0} ? g : Real{0}; });
    case Activation::tanh:
        return replace_gradient([](Real out, Real g) { return g * fused(-out, out, Real{1}); });
    }
}

template <class Real>
void exponentials(const Real* from, Real shift, Real* to, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        to[i] = exponential(from[i] - shift);
    }
}

template <class Real>
void add(const Real* left, const Real* right, Real* sum, std::size_t size) noexcept {
#pragma GCC ivdep // `sum` is `left`, `right`, or overlaps with neither
    for (std::size_t i = 0; i < size; ++i) {
        sum[i] = left[i] + right[i];
    }
}

template <class Real>
void lstm_forward(const LstmCell<Real>& cell, Real* h) noexcept {
    const std::size_t size = cell.size;
    Real* const i = cell.gates;
    Real* const f = i + size;
    Real* const g = f + size;
    Real* const o = g + size;
    sigmoid(i, 2 * size);
    tanh(g, size);
    sigmoid(o, size);
    Real* const c = cell.c;
    Real* const tanh_c = cell.tanh_c;
    if (const Real* const before = cell.before; before == nullptr) {
        for (std::size_t j = 0; j < size; ++j) {
            c[j] = i[j] * g[j];
        }
    } else {
#pragma GCC ivdep // the compiler does not check this many pointers for overlap itself
        for (std::size_t j = 0; j < size; ++j) {
            c[j] = fused(f[j], before[j], i[j] * g[j]);
        }
    }
    for (std::size_t j = 0; j < size; ++j) {
        tanh_c[j] = c[j];
    }
    tanh(tanh_c, size);
#pragma GCC ivdep
    for (std::size_t j = 0; j < size; ++j) {
        h[j] = o[j] * tanh_c[j];
    }
}

template <class Real>
void lstm_backward(const LstmCell<Real>& cell, const Real* dh, Real* dc) noexcept {
    const std::size_t size = cell.size;
    Real* const i = cell.gates;
    Real* const f = i + size;
    Real* const g = f + size;
    Real* const o = g + size;
    const Real* const tanh_c = cell.tanh_c;
#pragma GCC ivdep
    for (std::size_t j = 0; j < size; ++j) {
        const Real dcell = fused(dh[j] * o[j], fused(-tanh_c[j], tanh_c[j], Real{1}), dc[j]);
        const Real dinput = dcell * g[j] * i[j] * (Real{1} - i[j]);
        const Real dforget = dcell * f[j] * (Real{1} - f[j]);
        g[j] = dcell * i[j] * fused(-g[j], g[j], Real{1});
        o[j] = dh[j] * tanh_c[j] * o[j] * (Real{1} - o[j]);
        dc[j] = dcell * f[j];
        i[j] = dinput;
        f[j] = dforget;
    }
    const Real* const before = cell.before;
    for (std::size_t j = 0; j < size; ++j) {
        f[j] = before == nullptr ? Real{0} : f[j] * before[j];
    }
}

} // namespace

template <class Real>
void fill_elements(ElementKernels<Real>& kernels) noexcept {
    kernels = {activate<Real>, multiply_by_derivative<Real>, exponentials<Real>,
               add<Real>,      lstm_forward<Real>,           lstm_backward<Real>};
}
template void fill_elements(ElementKernels<float>&) noexcept;
template void fill_elements(ElementKernels<double>&) noexcept;

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
