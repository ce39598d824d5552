#include "dtrain/kernels/exponential.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

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

[[gnu::noinline]] void in_a_loop(float* values, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = exponential(values[i]);
    }
}

// The compiler cuts a loop into vectors and a remainder. The bits must not depend on where an element falls.
TEST(Exponential, GivesTheSameBitsInVectorsAndRemainders) {
    std::vector<float> inputs;
    for (int i = 0; i < 40; ++i) {
        inputs.push_back(-20.0F + 1.0371F * static_cast<float>(i));
    }
    std::vector<float> one_by_one = inputs;
    for (float& value : one_by_one) {
        in_a_loop(&value, 1);
    }
    for (std::size_t length = 1; length <= inputs.size(); ++length) {
        for (std::size_t start = 0; start + length <= inputs.size(); ++start) {
            std::vector<float> values = inputs;
            in_a_loop(values.data() + start, length);
            for (std::size_t i = start; i < start + length; ++i) {
                ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(one_by_one[i]))
                    << "element " << i << " of " << length << " from " << start;
            }
        }
    }
}

} // namespace
} // namespace dtrain::kernels
