#include "dtrain/nn/activation.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace dtrain::nn {
namespace {

constexpr std::array all{Activation::linear, Activation::sigmoid, Activation::relu, Activation::tanh};

double defined(Activation activation, double z) {
    switch (activation) {
    case Activation::linear:
        return z;
    case Activation::sigmoid:
        return 1 / (1 + std::exp(-z));
    case Activation::relu:
        return z > 0 ? z : 0;
    case Activation::tanh:
        return std::tanh(z);
    }
    return 0;
}

template <class Real>
Real activated(Activation activation, Real z) {
    activate(activation, std::span(&z, 1));
    return z;
}

TEST(Activation, IsFoundByItsName) {
    for (const Activation activation : all) {
        EXPECT_EQ(parse_activation(to_string(activation)), activation);
    }
    EXPECT_EQ(to_string(Activation::sigmoid), "sigmoid");
    EXPECT_EQ(parse_activation("Sigmoid"), std::nullopt);
    EXPECT_EQ(parse_activation(""), std::nullopt);
}

TEST(Activation, FollowsItsDefinition) {
    for (const Activation activation : all) {
        for (double z = -30; z <= 30; z += 0.037) {
            EXPECT_NEAR(activated(activation, z), defined(activation, z), 1e-14 * std::max(1.0, std::abs(z)));
            const auto z_float = static_cast<float>(z);
            EXPECT_NEAR(static_cast<double>(activated(activation, z_float)),
                        defined(activation, static_cast<double>(z_float)), 3e-7);
        }
    }
}

TEST(Activation, StaysInItsRangeForLargeInputs) {
    for (const float z : {100.0F, 1e4F, std::numeric_limits<float>::infinity()}) {
        EXPECT_EQ(activated(Activation::sigmoid, z), 1.0F);
        EXPECT_NEAR(activated(Activation::sigmoid, -z), 0.0F, 1e-37F);
        EXPECT_EQ(activated(Activation::tanh, z), 1.0F);
        EXPECT_EQ(activated(Activation::tanh, -z), -1.0F);
    }
}

// If an activation swallowed a NaN, a diverged run would look healthy.
TEST(Activation, KeepsNaNInEveryPlace) {
    for (const Activation activation : all) {
        for (std::size_t place = 0; place < 20; ++place) {
            std::vector<float> values(20, 0.5F);
            values[place] = std::numeric_limits<float>::quiet_NaN();
            activate(activation, std::span(values));
            for (std::size_t i = 0; i < values.size(); ++i) {
                EXPECT_EQ(std::isnan(values[i]), i == place) << to_string(activation);
            }
        }
    }
}

TEST(Activation, DerivativeAgreesWithTheFunction) {
    constexpr double h = 1e-6;
    for (const Activation activation : all) {
        for (double z = -5.003; z <= 5; z += 0.1) { // keeps a distance of h from the kink at 0
            const double y = defined(activation, z);
            double gradient = 3;
            multiply_by_derivative(activation, std::span(&y, 1), std::span(&gradient, 1));
            const double slope = (defined(activation, z + h) - defined(activation, z - h)) / (2 * h);
            EXPECT_NEAR(gradient, 3 * slope, 1e-8) << to_string(activation) << " at " << z;
        }
    }
}

// Rows of different shards and batch sizes share loops. The bits must not depend on the place of an element.
TEST(Activation, GivesTheSameBitsWhereverAnElementLies) {
    constexpr std::size_t size = 40;
    for (const Activation activation : all) {
        std::vector<float> inputs;
        for (std::size_t i = 0; i < size; ++i) {
            inputs.push_back(-8.0F + 0.4137F * static_cast<float>(i));
        }
        for (std::size_t length = 1; length <= size; ++length) {
            for (std::size_t start = 0; start + length <= size; ++start) {
                std::vector<float> values = inputs;
                std::vector<float> gradients(size, 0.7F);
                activate(activation, std::span(values).subspan(start, length));
                multiply_by_derivative<float>(activation, std::span(values).subspan(start, length),
                                              std::span(gradients).subspan(start, length));
                for (std::size_t i = 0; i < size; ++i) {
                    const bool inside = i >= start && i < start + length;
                    float value = inputs[i];
                    float gradient = 0.7F;
                    if (inside) {
                        value = activated(activation, value);
                        multiply_by_derivative<float>(activation, std::span(&value, 1), std::span(&gradient, 1));
                    }
                    ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(value))
                        << to_string(activation) << ", element " << i << " of " << length << " from " << start;
                    ASSERT_EQ(std::bit_cast<std::uint32_t>(gradients[i]), std::bit_cast<std::uint32_t>(gradient))
                        << to_string(activation) << ", element " << i << " of " << length << " from " << start;
                }
            }
        }
    }
}

} // namespace
} // namespace dtrain::nn
