#include "kernels/simd/exponential.hpp"
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace dtrain::kernels {
namespace {

double ulp(double value) {
    const auto nearest = static_cast<float>(value);
    return static_cast<double>(std::nextafter(nearest, std::numeric_limits<float>::infinity())) -
           static_cast<double>(nearest);
}

TEST(Exponential, IsWithinTwoUlp) {
    double worst = 0;
    constexpr int points = 2'000'000;
    for (int i = 0; i <= points; ++i) {
        const auto x = static_cast<float>(-87.0 + 175.0 * i / points);
        const double exact = std::exp(static_cast<double>(x));
        worst = std::max(worst, std::abs(static_cast<double>(exponential(x)) - exact) / ulp(exact));
    }
    for (float x = 1e-30F; x < 1; x *= 1.01F) { // where the result is close to 1
        for (const float signed_x : {x, -x}) {
            const double exact = std::exp(static_cast<double>(signed_x));
            worst = std::max(worst, std::abs(static_cast<double>(exponential(signed_x)) - exact) / ulp(exact));
        }
    }
    EXPECT_LE(worst, 2.0);
    EXPECT_EQ(exponential(0.0F), 1.0F);
    EXPECT_EQ(exponential(-0.0F), 1.0F);
}

TEST(Exponential, IsClampedOutside) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(exponential(1000.0F), exponential(88.0F));
    EXPECT_EQ(exponential(infinity), exponential(88.0F));
    EXPECT_EQ(exponential(-1000.0F), 0.0F);
    EXPECT_EQ(exponential(-infinity), 0.0F);
    EXPECT_TRUE(std::isfinite(exponential(infinity)));
}

TEST(Exponential, KeepsNaN) {
    EXPECT_TRUE(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
    EXPECT_TRUE(std::isnan(exponential(-std::numeric_limits<float>::quiet_NaN())));
    EXPECT_TRUE(std::isnan(exponential(std::numeric_limits<double>::quiet_NaN())));
}

TEST(Exponential, InDoubleEqualsTheStandardLibrary) {
    for (const double x : {-300.0, -1.0, 0.0, 0.5, 100.0}) {
        EXPECT_EQ(exponential(x), std::exp(x));
    }
}

} // namespace
} // namespace dtrain::kernels
