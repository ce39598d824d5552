#pragma once

#include <cmath>
#include <cstdint>

namespace dtrain::kernels {

/// e^x without branches, so that loops over it vectorise. It is always inlined, so it is part of each table of kernels.
/// The float version follows Cephes' expf (S. Moshier): it
/// subtracts a multiple of ln 2 in two parts and evaluates a polynomial of degree 6. The error is at most 2 ulp for
/// -87 <= x <= 88. Below -87 the result is 0, above 88 it is e^88, and NaN stays NaN. The double version is std::exp.
[[nodiscard, gnu::always_inline]] inline double exponential(double x) noexcept {
    return __builtin_exp(x);
}
[[nodiscard, gnu::always_inline]] inline float exponential(float x) noexcept {
    // Comparisons with NaN are false, so NaN passes through.
    const float clamped = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
    const float shifted = __builtin_fmaf(clamped, 1.44269504F, 0x1.8p23F); // rounds to an integer in the low bits
    const float n = shifted - 0x1.8p23F;
    const float r = __builtin_fmaf(n, 2.12194440e-4F, __builtin_fmaf(n, -0.693359375F, clamped));
    float p = 1.9875691500e-4F;
    p = __builtin_fmaf(p, r, 1.3981999507e-3F);
    p = __builtin_fmaf(p, r, 8.3334519073e-3F);
    p = __builtin_fmaf(p, r, 4.1665795894e-2F);
    p = __builtin_fmaf(p, r, 1.6666665459e-1F);
    p = __builtin_fmaf(p, r, 5.0000001201e-1F);
    p = __builtin_fmaf(p * r, r, r) + 1.0F;
    const float power = __builtin_bit_cast(float, (__builtin_bit_cast(std::uint32_t, shifted) + 127U) << 23);
    return x < -87.0F ? 0.0F : p * power;
}

} // namespace dtrain::kernels
