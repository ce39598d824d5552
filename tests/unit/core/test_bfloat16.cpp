#include "dtrain/core/bfloat16.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace dtrain::core {
namespace {

/// The definition: the nearest number with 8 bits of precision, by double arithmetic.
float nearest(float value) {
    if (!std::isfinite(value) || value == 0) {
        return value;
    }
    if (std::fabs(value) < std::numeric_limits<float>::min()) {
        return std::copysign(0.0F, value);
    }
    int exponent = 0;
    const double fraction = std::frexp(static_cast<double>(value), &exponent);
    return static_cast<float>(std::ldexp(std::nearbyint(fraction * 256), exponent - 8)); // ties to even
}

TEST(Bfloat16, RoundsToNearest) {
    for (std::uint32_t bits = 0; bits < 0xfffff000U; bits += 997) {
        const auto value = std::bit_cast<float>(bits);
        const float rounded = from_bfloat16(to_bfloat16(value));
        if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(rounded));
        } else {
            EXPECT_EQ(std::bit_cast<std::uint32_t>(rounded), std::bit_cast<std::uint32_t>(nearest(value))) << value;
        }
    }
}

TEST(Bfloat16, SpecialValues) {
    const auto rounded = [](float value) { return from_bfloat16(to_bfloat16(value)); };
    EXPECT_EQ(rounded(1 + 0x1p-8F), 1.0F) << "a tie goes to the even mantissa";
    EXPECT_EQ(rounded(1 + 0x3p-8F), 1 + 0x1p-6F);
    EXPECT_EQ(rounded(255.0F), 255.0F) << "bytes are exact";
    EXPECT_EQ(rounded(std::numeric_limits<float>::max()), std::numeric_limits<float>::infinity());
    EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0x7f800001U)))) << "the upper half alone would be infinite";
    EXPECT_TRUE(std::signbit(rounded(-std::numeric_limits<float>::denorm_min())));
}

} // namespace
} // namespace dtrain::core
