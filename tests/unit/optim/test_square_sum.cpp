#include "dtrain/core/random.hpp"
#include "dtrain/optim/square_sum.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace dtrain::optim {
namespace {

using Limbs = std::array<std::int64_t, square_limbs>;

/// Values of all magnitudes, so that orders of addition differ in their bits.
std::vector<float> draw(std::size_t size) {
    core::RandomStream random(4, core::Purpose::initialisation, 0, 1);
    std::vector<float> values(size);
    for (float& value : values) {
        value = std::ldexp(static_cast<float>(2 * random.uniform() - 1), 10 - static_cast<int>(random.below(30)));
    }
    return values;
}

double norm_of(std::span<const float> values, float scale = 1) {
    Limbs sum{};
    add_squares(values, scale, sum);
    return square_root(sum);
}

TEST(SquareSum, IsTheEuclideanNorm) {
    const std::vector<float> values = draw(16'000);
    double expected = 0;
    for (const float value : values) {
        expected += static_cast<double>(value) * static_cast<double>(value);
    }
    EXPECT_NEAR(norm_of(values), std::sqrt(expected), 1e-12 * std::sqrt(expected));
    EXPECT_NEAR(norm_of(values, 0.25F), 0.25 * std::sqrt(expected), 1e-12 * std::sqrt(expected));
    EXPECT_EQ(norm_of(std::vector<float>(32)), 0);
    EXPECT_NEAR(norm_of(std::vector<float>(16, 1e-7F)), 4e-7, 1e-12);
    EXPECT_NEAR(norm_of(std::vector<float>(16, 8000.0F)), 32'000, 1e-9);
}

TEST(SquareSum, HasTheSameBitsForAnyDistributionOfLines) {
    const std::vector<float> values = draw(16'000);
    const double expected = norm_of(values);
    for (const std::size_t ranks : {2U, 3U, 7U, 1000U}) {
        Limbs total{};
        for (std::size_t rank = ranks; rank-- > 0;) { // each rank's own sum, in reverse order
            Limbs own{};
            const std::size_t begin = 1000 * rank / ranks * 16;
            const std::size_t end = 1000 * (rank + 1) / ranks * 16;
            add_squares(std::span(values).subspan(begin, end - begin), 1, own);
            for (std::size_t i = 0; i < square_limbs; ++i) {
                total[i] += own[i];
            }
        }
        EXPECT_EQ(square_root(total), expected) << ranks << " ranks";
    }
}

TEST(SquareSum, ClampsSumsAboveTheMaximum) {
    for (const float bad : {1e30F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> values(32);
        values[21] = bad;
        EXPECT_EQ(norm_of(values), 0x1p15) << bad;
    }
}

} // namespace
} // namespace dtrain::optim
