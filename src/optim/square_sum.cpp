#include "dtrain/optim/square_sum.hpp"

#include "dtrain/kernels/instruction_set.hpp"

#include <cmath>

namespace dtrain::optim {
namespace {

using Wide = __int128;

constexpr double units = 0x1p70;

} // namespace

void add_squares(std::span<const float> values, float scale, SquareSum sum) {
    const Wide total = kernels::table().updates.sum_squares(values.data(), values.size(), scale);
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
