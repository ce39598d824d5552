#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::optim {

/// A sum of squares as an integer of 128 bits in units of 2^-70, in four limbs of 32 bits with room to add up many of
/// them by elements: integers, unlike floats, give the same sum in any order, so it does not matter who adds up what.
/// Squares are added up in double within a cache line of floats, then rounded down to the unit; a line's sum counts for
/// 2^30 at most, more than training survives. Room for 2^27 lines and 2^31 sums.
inline constexpr std::size_t square_limbs = 4;
using SquareSum = std::span<std::int64_t, square_limbs>;

/// Adds the squares of scale · values[i]. Whole cache lines: values.size() is a multiple of 16.
void add_squares(std::span<const float> values, float scale, SquareSum sum);

[[nodiscard]] double square_root(SquareSum sum);

} // namespace dtrain::optim
