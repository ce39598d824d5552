#include "dtrain/optim/square_sum.hpp"

#include <array>
#include <cmath>

namespace dtrain::optim {
namespace {

using Wide = __int128;

constexpr std::size_t line = 16;
constexpr double units = 0x1p70;
constexpr double max_units = 0x1p100; ///< cap for the sum of a line

} // namespace

void add_squares(std::span<const float> values, float scale, SquareSum sum) {
    Wide total = 0;
    for (std::size_t begin = 0; begin < values.size(); begin += line) {
        std::array<double, line / 2> s{};
        for (std::size_t i = 0; i < s.size(); ++i) {
            const double left = scale * values[begin + i];
            const double right = scale * values[begin + s.size() + i];
            s[i] = left * left + right * right; // the squares need 48 bits, so they are exact, fused or not
        }
        const double in_units = (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))) * units;
        total += static_cast<Wide>(in_units < max_units ? in_units : max_units); // NaN counts as the maximum too
    }
    for (std::size_t i = 0; i < square_limbs; ++i) {
        sum[i] += static_cast<std::int64_t>((total >> (32 * i)) & 0xffffffff);
    }
}

double square_root(SquareSum sum) {
    Wide total = 0;
    for (std::size_t i = square_limbs; i-- > 0;) {
        total = (total << 32) + sum[i];
    }
    return std::sqrt(static_cast<double>(total) / units);
}

} // namespace dtrain::optim
