#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace dtrain::kernels {

/// e^x without branches, so that loops over it vectorise. The float version follows Cephes' expf (S. Moshier): it
/// subtracts a multiple of ln 2 in two parts and evaluates a polynomial of degree 6. The error is at most 2 ulp for
/// -87 <= x <= 88. Below -87 the result is 0, above 88 it is e^88, and NaN stays NaN. The double version is std::exp.
template <class Real>
[[nodiscard]] inline Real exponential(Real x) noexcept {
    if constexpr (std::is_same_v<Real, double>) {
        return std::exp(x);
    } else {
        // Comparisons with NaN are false, so NaN passes through.
        const float clamped = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
        const float shifted = clamped * 1.44269504F + 0x1.8p23F; // rounds to an integer in the low bits
        const float n = shifted - 0x1.8p23F;
        const float r = (clamped - n * 0.693359375F) - n * -2.12194440e-4F;
        float p = 1.9875691500e-4F;
        p = p * r + 1.3981999507e-3F;
        p = p * r + 8.3334519073e-3F;
        p = p * r + 4.1665795894e-2F;
        p = p * r + 1.6666665459e-1F;
        p = p * r + 5.0000001201e-1F;
        p = p * r * r + r + 1.0F;
        const float result = p * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127U) << 23);
        return x < -87.0F ? 0.0F : result;
    }
}

} // namespace dtrain::kernels
