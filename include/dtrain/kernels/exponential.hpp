#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace dtrain::kernels {

/// e^x without branches, so that loops over it vectorise. In float: argument reduction by ln 2 in two parts and a
/// polynomial of degree 6 after Cephes' expf (S. Moshier), within 2 ulp for -87 <= x <= 88; zero below, e^88 above; NaN
/// stays NaN. In double: std::exp.
template <class Real>
[[nodiscard]] inline Real exponential(Real x) noexcept {
    if constexpr (std::is_same_v<Real, double>) {
        return std::exp(x);
    } else {
        // Written so that a comparison with NaN keeps x.
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
