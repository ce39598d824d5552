#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::optim {

/// A sum of squares as a 128-bit integer in units of 2^-70. Sums of integers do not depend on the order of addition, so
/// the result is the same for any number of ranks. The integer is stored as four limbs of 32 bits in 64-bit words, so
/// that sums can be added element by element. The squares of a cache line of floats (16 values) are added in double and
/// rounded down to the unit. The sum of a line is capped at 2^30, which training never reaches unless it diverges.
/// There is room for 2^27 lines and for adding 2^31 sums.
inline constexpr std::size_t square_limbs = 4;
using SquareSum = std::span<std::int64_t, square_limbs>;

/// Adds the squares of scale · values[i] to `sum`. values.size() must be a multiple of 16 (whole cache lines).
void add_squares(std::span<const float> values, float scale, SquareSum sum);

/// The square root of the sum: a Euclidean norm.
[[nodiscard]] double square_root(SquareSum sum);

} // namespace dtrain::optim
