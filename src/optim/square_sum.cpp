#include "dtrain/optim/square_sum.hpp"

#include <array>
#include <cmath>

namespace dtrain::optim {
namespace {

__extension__ using Wide = __int128;

constexpr std::size_t line = 16;
constexpr double units = 0x1p70;
constexpr double most_units = 0x1p100; ///< of a line

} // namespace

void add_squares(std::span<const float> values, float scale, SquareSum sum) {
    Wide total = 0;
    for (std::size_t begin = 0; begin < values.size(); begin += line) {
        std::array<double, line> squares{};
        for (std::size_t i = 0; i < line; ++i) {
            const auto value = static_cast<double>(scale * values[begin + i]);
            squares[i] = value * value; // exact, as 48 bits fit
        }
        for (std::size_t half = line / 2; half > 0; half /= 2) {
            for (std::size_t i = 0; i < half; ++i) {
                squares[i] += squares[i + half];
            }
        }
        const double in_units = squares[0] * units;
        total += static_cast<Wide>(in_units < most_units ? in_units : most_units); // NaN is the most, too
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
