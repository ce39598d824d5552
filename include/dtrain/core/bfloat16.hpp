#pragma once

#include <cstdint>

// bfloat16 is the upper half of a float: 1 sign bit, 8 bits of exponent, 7 bits of mantissa. The functions are always
// inlined, so they are part of each table of kernels, and loops over them vectorise.

namespace dtrain::core {

/// Rounds to the nearest bfloat16, ties to even. Denormal numbers become zero, with their sign, as in the instructions
/// of x86 (VCVTNEPS2BF16). A NaN stays a NaN. Numbers above the largest bfloat16 become infinite.
[[nodiscard, gnu::always_inline]] inline std::uint16_t to_bfloat16(float value) noexcept {
    const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    const std::uint32_t rounded = bits + 0x7fffU + (bits >> 16 & 1U);
    const std::uint32_t number = magnitude < 0x00800000U ? bits & 0x80000000U : rounded;
    return static_cast<std::uint16_t>((magnitude > 0x7f800000U ? bits | 0x00400000U : number) >> 16);
}

[[nodiscard, gnu::always_inline]] inline float from_bfloat16(std::uint16_t value) noexcept {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(value) << 16);
}

} // namespace dtrain::core
